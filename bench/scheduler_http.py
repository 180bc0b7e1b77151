"""The packing experiment through the extender as it is called by kube-scheduler, and how long a
pod takes there, as processor time of the extender's thread, so that other programs do not count:
`python -m bench.scheduler_http DIR [TRACE] [SEED] [PODS] [NODES] [HOW]`, HOW being what nodes tell
of their GPUs: `counts`, `slices` (a class serves the resource), or `claims` (as slices, and pods
with whole GPUs have ResourceClaims).

One connection on loopback: filter over all nodes, prioritize over those that fit, the highest score
wins, equal ones at random. Models of a pod are left out: a trace with several for one pod cannot be
said by a node selector.
"""

import argparse
import asyncio
import http.client
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from bench.targets import Target
from deviceplugin.runtime.garbage import settle
from deviceplugin.scheduler import claims, published
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.http import Answer, Request, Server
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.service import Service, Settings
from deviceplugin.simulate.trace import arrivals, read_nodes, read_pods

SHARE = "example.com/milli"
GPU = "nvidia.com/gpu"
FEWER = 1213  # nodes: of the trace


def pod_of(demand: Demand, name: str) -> dict[str, Any]:
    """The demand as a pod."""
    limits = {"cpu": f"{demand.cpu_milli}m", "memory": f"{demand.memory_mib}Mi"}
    if demand.gpus:
        whole = demand.gpu_milli == 1000
        limits[GPU if whole else SHARE] = str(demand.gpus if whole else demand.gpu_milli)
    return {
        "metadata": {"name": name, "namespace": "bench", "uid": name},
        "spec": {"containers": [{"resources": {"limits": limits}}]},
    }


DRIVER = "gpu.nvidia.com"
CLASS = {
    "metadata": {"name": DRIVER},
    "spec": {
        "extendedResourceName": GPU,
        "selectors": [
            {
                "cel": {
                    "expression": f'device.driver == "{DRIVER}"'
                    f' && device.attributes["{DRIVER}"].type == "gpu"'
                }
            }
        ],
    },
}


def slice_of(node: NodeState) -> dict[str, Any]:
    """The node's GPUs as its driver publishes them."""
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {
                "type": {"string": "gpu"},
                "uuid": {"string": f"GPU-{node.name}-{number}"},
                "productName": {"string": node.model},
                "resource.kubernetes.io/numaNode": {"int": 2 * number // len(node.free)},
            },
            "capacity": {"memory": {"value": "40Gi"}},
        }
        for number in range(len(node.free))
    ]
    pool = {"name": node.name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": node.name, "pool": pool, "devices": devices}
    return {"metadata": {"name": node.name}, "spec": spec}


def put_slices(service: Service, nodes: Sequence[NodeState]) -> None:
    """As the watches do."""
    keeping = published.Keeping(published.DRIVERS)
    found = msgspec.convert(list(map(slice_of, nodes)), list[published.ResourceSlice])
    kept = [keeping.small(one) for one in found]
    started = time.thread_time()
    service.cluster.put_classes("SET", [msgspec.convert(CLASS, claims.DeviceClass)])
    service.cluster.put_slices("SET", kept)
    print(f"{len(kept)} slices: {1000 * (time.thread_time() - started):.0f} ms of the thread")


def put_claim(service: Service, pod: dict[str, Any], got: Sequence[str] = ()) -> None:
    """The pod's whole GPUs as a claim, and its devices where it has them."""
    name = pod["metadata"]["name"]
    exactly = {"deviceClassName": DRIVER, "count": pod["gpus"]}
    document: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }
    if got:
        node = pod["spec"]["nodeName"]
        results = [{"driver": DRIVER, "pool": node, "device": device} for device in got]
        document["status"] = {"allocation": {"devices": {"results": results}}}
    kept = claims.small(msgspec.convert(document, claims.ResourceClaim), published.DRIVERS)
    service.cluster.put_claims("PUT", [kept])


def claim_instead(pod: dict[str, Any]) -> bool:
    """Make the pod ask by a claim, if it asks for whole GPUs."""
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    pod["gpus"] = int(limits.pop(GPU, 0))
    if pod["gpus"]:
        name = pod["metadata"]["name"]
        pod["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimName": name}]
    return bool(pod["gpus"])


class Caller:
    """kube-scheduler's side."""

    def __init__(self, port: int, names: Sequence[str], seed: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._names, self._chance = list(names), random.Random(seed)

    def schedule(self, pod: dict[str, Any]) -> str:
        """The node that the pod gets, or nothing."""
        fitting = self._ask("filter", pod, self._names)["NodeNames"]
        scores = self._ask("prioritize", pod, fitting) if fitting else []
        if not scores:
            return ""
        best = max(score["Score"] for score in scores)
        return str(self._chance.choice([s["Host"] for s in scores if s["Score"] == best]))

    def _ask(self, verb: str, pod: dict[str, Any], names: Sequence[str]) -> Any:
        body = json.dumps({"Pod": pod, "NodeNames": names}).encode()
        self._connection.request("POST", f"/{verb}", body)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)


class Clock:
    """The extender's time on its thread, for each pod: its calls together."""

    def __init__(self, service: Service) -> None:
        self._service, self._now = service, 0.0
        self.seconds: list[float] = []

    def answer(self, request: Request) -> Answer:
        """The service's own answer."""
        started = time.thread_time()
        found = self._service.answer(request)
        self._now += time.thread_time() - started
        return found

    def next(self) -> None:
        """A pod is done."""
        self.seconds.append(self._now)
        self._now = 0.0


def read_as_many(path: Path, count: int) -> Sequence[NodeState]:
    """The trace's nodes, again and again under other names until there are so many."""
    nodes = read_nodes(path)
    return [
        structs.replace(nodes[n % len(nodes)], name=f"{nodes[n % len(nodes)].name}-{n}")
        for n in range(count or len(nodes))
    ]


async def measure(folder: Path, trace: str, seed: int, limits: tuple[int, int, str]) -> None:
    """One run; the service has no API server here, so nodes and bindings are given to it."""
    most, count, how = limits
    nodes = read_as_many(folder / "openb_node_list_gpu_node.csv", count)
    pods = read_pods(folder / f"openb_pod_list_{trace}.csv")
    service = Service(Settings(address=("127.0.0.1", 0), reading=Reading(shares={SHARE: 1})))
    documents = [
        {
            "metadata": {"name": node.name},
            "status": {
                "allocatable": {
                    "cpu": f"{node.cpu_milli}m",
                    "memory": f"{node.memory_mib}Mi",
                    GPU: str(len(node.free) if how == "counts" else 0),
                }
            },
        }
        for node in nodes
    ]
    service.cluster.set_nodes(msgspec.convert(documents, list[Node]))
    if how != "counts":
        put_slices(service, nodes)
    service.cluster.board.expect(Workload(pods))
    service._missing.clear()
    settle()  # as the service does when it has its lists
    clock = Clock(service)
    port = await Server(clock.answer).listen(("127.0.0.1", 0), None)
    caller = Caller(port, [n.name for n in nodes], seed)
    capacity, allocated = 1000 * sum(len(node.free) for node in nodes), 0
    for number, demand in enumerate(arrivals(pods, round(1.3 * capacity), seed)[:most]):
        pod = pod_of(demand, f"pod-{number}")
        claiming = how == "claims" and claim_instead(pod)
        if claiming:
            put_claim(service, pod)
        if name := await asyncio.to_thread(caller.schedule, pod):
            pod["spec"]["nodeName"] = name
            if claiming:
                why = service._extender.explained(f"bench/pod-{number}") or {}
                put_claim(service, pod, why["best"][0]["devices"])
            service.cluster.put_pod(msgspec.convert(pod, Pod))
            allocated += demand.total_milli
        clock.next()
    times = sorted(1000 * seconds for seconds in clock.seconds)
    p99 = times[int(len(times) * 0.99)]
    print(
        f"{trace}, seed {seed}, {len(nodes)} nodes by {how}:"
        f" {100 * allocated / capacity:.2f} % allocated; {len(times)} pods,"
        " filter and prioritize, processor time of the extender's thread:"
        f" p50 {statistics.median(times):.1f} ms, p99 {p99:.1f} ms"
    )
    target = Target("ms p99", most=25 if len(nodes) <= FEWER else 100)
    print(target.told(round(p99, 1)))


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("trace", nargs="?", default="default")
    parser.add_argument("seed", nargs="?", type=int, default=42)
    parser.add_argument("pods", nargs="?", type=int, default=1_000_000, help="so many at most")
    parser.add_argument("nodes", nargs="?", type=int, default=0, help="0: those of the trace")
    parser.add_argument("how", nargs="?", choices=("counts", "slices", "claims"), default="counts")
    given = parser.parse_args()
    limits = given.pods, given.nodes, given.how
    asyncio.run(measure(given.folder, given.trace, given.seed, limits))


if __name__ == "__main__":
    main()
