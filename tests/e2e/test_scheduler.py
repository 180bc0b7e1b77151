"""The extender behind a real kube-scheduler and API server, with nodes that are objects alone.

The environment names an API server (E2E_API, E2E_CA, E2E_TOKEN: rights over everything) that runs
without a kubelet for these nodes, and a kube-scheduler to run beside its own (E2E_KUBE_SCHEDULER).
"""

import asyncio
import contextlib
import http.client
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deviceplugin.cli.scheduler_config import asking_of_file, configuration_text
from deviceplugin.kubernetes.api import Access, Api, ApiError
from deviceplugin.scheduler.alike import ranks
from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.objects import Reading
from deviceplugin.scheduler.packing import cost
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.service import Service, Settings

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
GPU, DRIVER, CLASS = "nvidia.com/gpu", "gpu.nvidia.com", "e2e-gpu.nvidia.com"
DRA = "/apis/resource.k8s.io/v1"
PODS_AT, CLAIMS = "/api/v1/namespaces/default/pods", f"{DRA}/namespaces/default/resourceclaims"
NODES, PODS, WAIT_S = 40, 60, 240.0
NAMED = ("E2E_API", "E2E_CA", "E2E_TOKEN", "E2E_KUBE_SCHEDULER")
# As it stands in the reference: plugins that no kube-scheduler has.
REFERENCE = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: gpu-scheduler
  plugins:
    filter:
      enabled:
      - name: GPUResourceFit
      - name: GPUAffinity
    score:
      enabled:
      - name: GPUResourceFit
        weight: 50
      - name: GPUAffinity
        weight: 30
      - name: GPULoadBalancing
        weight: 20
"""
Object = dict[str, Any]


class Plane:
    """The API server, the nodes and pods of a test, and the processes that decide."""

    def __init__(self, folder: Path) -> None:
        at = urlsplit(os.environ["E2E_API"])
        account = folder / "account"
        account.mkdir()
        (account / "token").write_text(os.environ["E2E_TOKEN"])
        (account / "ca.crt").write_text(Path(os.environ["E2E_CA"]).read_text())
        self.folder = folder
        self.api = Api(Access(host=at.hostname or "", port=at.port or 443, account=account))
        self.file = folder / "reference.yaml"
        self.file.write_text(REFERENCE)
        self.scheduler_log = folder / "kube-scheduler.log"

    def add_node(self, name: str, gpus: int) -> None:
        self.api.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
        status = {"capacity": room, "allocatable": room}
        ready = {"type": "Ready", "status": "True", "reason": "Test"}
        kind = "application/strategic-merge-patch+json"
        body = {"status": {**status, "conditions": [ready]}}
        self.api.request("PATCH", f"/api/v1/nodes/{name}/status", body, kind)
        kind, untainted = "application/merge-patch+json", {"spec": {"taints": None}}
        self.api.request(
            "PATCH", f"/api/v1/nodes/{name}", untainted, "application/merge-patch+json"
        )

    def add_pod(self, name: str, gpus: int, cpu: int = 1) -> None:
        self._add(name, {"cpu": str(cpu), "memory": "1Gi", GPU: str(gpus)})

    def _add(self, name: str, limits: Object, **spec: object) -> None:
        container = {"name": "main", "image": "none", "resources": {"limits": limits}}
        whole = {"schedulerName": "gpu-scheduler", "containers": [container], **spec}
        body = {"metadata": {"name": name}, "spec": whole}
        self.api.request("POST", "/api/v1/namespaces/default/pods", body)

    def add_class(self) -> None:
        """As NVIDIA's driver brings it."""
        chosen = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
        spec = {"selectors": [{"cel": {"expression": chosen}}]}
        self.api.request(
            "POST", f"{DRA}/deviceclasses", {"metadata": {"name": CLASS}, "spec": spec}
        )

    def add_slice(self, node: str, gpus: int) -> None:
        spec = {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {
                    "name": f"gpu-{number}",
                    "attributes": {
                        "type": {"string": "gpu"},
                        "uuid": {"string": f"GPU-{node}-{number}"},
                    },
                    "capacity": {"memory": {"value": "80Gi"}},
                }
                for number in range(gpus)
            ],
        }
        self.api.request(
            "POST", f"{DRA}/resourceslices", {"metadata": {"name": node}, "spec": spec}
        )

    def add_claimant(self, name: str, gpus: int) -> None:
        """A pod with a claim of so many GPUs."""
        asked = {"deviceClassName": CLASS, "allocationMode": "ExactCount", "count": gpus}
        spec = {"devices": {"requests": [{"name": "gpus", "exactly": asked}]}}
        self.api.request("POST", CLAIMS, {"metadata": {"name": name}, "spec": spec})
        claims = [{"name": "gpus", "resourceClaimName": name}]
        self._add(name, {"cpu": "1", "memory": "1Gi"}, resourceClaims=claims)

    def node_of(self, name: str) -> str:
        found = self.api.request("GET", f"/api/v1/namespaces/default/pods/{name}")
        return str(found["spec"].get("nodeName", ""))

    def clear(self) -> None:
        kinds = ("resourceslices", "deviceclasses")
        for kind in (PODS_AT, CLAIMS, "/api/v1/nodes", *(f"{DRA}/{kind}" for kind in kinds)):
            for one in self.api.request("GET", f"{kind}?limit=500").get("items", ()):
                name = one["metadata"]["name"]
                if name.startswith("e2e-"):
                    with contextlib.suppress(ApiError):
                        self.api.request("DELETE", f"{kind}/{name}", {"gracePeriodSeconds": 0})

    @contextlib.contextmanager
    def kube_scheduler(self, port: int) -> Iterator[None]:
        """The real one, with the reference's configuration as `scheduler render` prints it."""
        kubeconfig, config = self.folder / "kubeconfig", self.folder / "scheduler.yaml"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {
                                "server": os.environ["E2E_API"],
                                "certificate-authority": os.environ["E2E_CA"],
                            },
                        }
                    ],
                    "users": [{"name": "u", "user": {"token": os.environ["E2E_TOKEN"]}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                }
            )
        )
        text = configuration_text(str(self.file), f"http://127.0.0.1:{port}", str(kubeconfig))
        document = yaml.safe_load(text) | {"leaderElection": {"leaderElect": False}}
        config.write_text(yaml.safe_dump(document))
        with self.scheduler_log.open("w") as log:
            command = [os.environ["E2E_KUBE_SCHEDULER"], "--config", str(config)]
            running = subprocess.Popen(
                [*command, "--secure-port=0", "--v=1"], stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield
            finally:
                running.terminate()
                running.wait()


class Extender:
    """The extender in a thread of its own, until `kill`."""

    def __init__(self, plane: Plane) -> None:
        asking = asking_of_file(str(plane.file)).asking
        reading = Reading(asking=asking)
        self.service = Service(Settings(address=("127.0.0.1", 0), reading=reading, events=True))
        self._api, self.port = plane.api, 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        until(lambda: not self.service._missing, "the extender knows the cluster")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self.service.run(self._api, self._listening))
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        left = asyncio.all_tasks(self._loop)  # connections that kube-scheduler keeps
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
        self._loop.run_until_complete(asyncio.sleep(0))  # their sockets are closed in the next turn
        self._loop.close()

    def _listening(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def kill(self) -> None:
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def metrics(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()


@contextlib.contextmanager
def extender_of(plane: Plane) -> Iterator[Extender]:
    made = Extender(plane)
    try:
        yield made
    finally:
        made.kill()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    missing = [name for name in NAMED if not os.environ.get(name)]
    if missing:
        pytest.skip(f"no API server and kube-scheduler: {', '.join(missing)} not set")
    made = Plane(tmp_path)
    made.clear()
    try:
        yield made
    finally:
        made.clear()


def simulated(sizes: Sequence[int], rooms: Mapping[str, int]) -> list[str]:
    """Where the pods of these sizes go one after the other, by the same rule."""
    board = Board([], Workload([]), cost)
    for name, gpus in rooms.items():
        board.nodes[name] = NodeState(name, "", 64_000, 512 << 10, [1000] * gpus)
    found = []
    for gpus in sizes:
        demand = Demand(cpu_milli=1000, memory_mib=1024, gpus=gpus)
        costs = board.costs(rooms, demand)
        scores = ranks(costs)
        best = max(scores, key=scores.__getitem__)
        board.place(best, demand, costs[best].chosen)
        found.append(best)
    return found


def landed(plane: Plane, add: Callable[[str, int], None], sizes: Sequence[int]) -> list[str]:
    """The nodes of pods that are made one after the other."""
    found = []
    for number, gpus in enumerate(sizes):
        name = f"e2e-p{number}"
        add(name, gpus)
        until(partial(plane.node_of, name), f"{name} is scheduled")
        found.append(plane.node_of(name))
    return found


def test_pods_land_where_the_simulation_says_and_go_on_without_the_extender(plane: Plane) -> None:
    rooms = {f"e2e-n{n:02}": (8, 4, 2)[n % 3] for n in range(NODES)}
    for name, gpus in rooms.items():
        plane.add_node(name, gpus)
    with extender_of(plane) as extender, extender_of(plane) as watching:
        _land(plane, rooms, (extender, watching))


def test_pods_with_claims_land_where_the_same_rule_puts_them(plane: Plane) -> None:
    rooms = {f"e2e-n{n:02}": (8, 4, 2)[n % 3] for n in range(NODES // 2)}
    plane.add_class()
    for name, gpus in rooms.items():
        plane.add_node(name, 0)
        plane.add_slice(name, gpus)
    sizes = [(1, 2, 1, 4)[n % 4] for n in range(PODS // 2)]
    with extender_of(plane) as extender, plane.kube_scheduler(extender.port):
        assert landed(plane, plane.add_claimant, sizes) == simulated(sizes, rooms)
        assert f'decisions_total{{path="slices"}} {len(sizes)}.0' in extender.metrics()


def _land(plane: Plane, rooms: Mapping[str, int], extenders: tuple[Extender, Extender]) -> None:
    extender, watching = extenders
    sizes = [(1, 2, 1, 4)[n % 4] for n in range(PODS)]
    with plane.kube_scheduler(extender.port):
        assert landed(plane, plane.add_pod, sizes) == simulated(sizes, rooms)
        text = extender.metrics()
        assert 'decisions_total{path="counts"}' in text
        until(lambda: _events(plane, "e2e-p0"), "the Event that says why this node")
        extender.kill()
        plane.add_pod("e2e-after", 1)
        until(partial(plane.node_of, "e2e-after"), "a pod is scheduled without the extender")
        counted = f'bindings_total{{asked="no"}} {PODS + 1}.0'
        until(lambda: counted in watching.metrics(), "the other replica counts it")


def _events(plane: Plane, pod: str) -> list[Object]:
    path = f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={pod}"
    found = plane.api.request("GET", path)["items"]
    return [one for one in found if one["reason"] == "GpuNodeChosen"]
