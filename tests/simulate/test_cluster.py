"""A simulation of a cluster as kubectl prints it, or as its Prometheus has it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from deviceplugin.cli.traces import read_trace
from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Reading
from deviceplugin.simulate.policies import POLICIES
from deviceplugin.simulate.replay import Replay
from deviceplugin.simulate.trace import arrivals
from tests.rig import run_command
from tests.scheduler.objects import node, pod
from tests.scheduler.partitions import ONE, asking, told

READING = Reading(shares={"example.com/share": 10})
Flags = dict[str, Any]


def flags(**given: object) -> Flags:
    none = dict.fromkeys(("nodes", "pods", "prometheus", "token_file", "ca_file"))
    return {**none, "days": "7", "tenant": "", **given}


def listed(path: Path, *items: object) -> str:
    path.write_text(json.dumps({"kind": "List", "items": items}))
    return str(path)


def bound(name: str, kind: str) -> dict[str, Any]:
    found = pod(name, node="a", cpu="4")
    found["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
    found["status"]["phase"] = "Running"
    return found


def test_nodes_and_pods_of_kubectl_are_a_trace(tmp_path: Path) -> None:
    given = flags(
        nodes=listed(tmp_path / "nodes.json", node("a", 4), node("b", 2)),
        pods=listed(
            tmp_path / "pods.json",
            pod("q", gpus=2, node="a"),
            pod("p", share=30),
            bound("agent", "DaemonSet"),
            bound("etcd", "Node"),
        ),
    )
    nodes, pods = read_trace(given, READING)
    assert [(one.name, one.model, one.cpu_milli, len(one.free)) for one in nodes] == [
        ("a", "H100", 56_000, 4),  # without what its own pods take
        ("b", "H100", 64_000, 2),
    ]
    assert all(milli == 1000 for one in nodes for milli in one.free)
    assert [(one.gpus, one.gpu_milli) for one in pods] == [(1, 300), (2, 1000)]


def test_gpus_that_are_cut_are_a_part_of_a_trace_and_are_filled(tmp_path: Path) -> None:
    given = flags(
        nodes=listed(tmp_path / "nodes.json", told("a", ((0, 1), (2, 3))), node("b", 1)),
        pods=listed(tmp_path / "pods.json", *(asking(f"p{n}", one=1) for n in range(5))),
    )
    nodes, pods = read_trace(given, READING)
    assert nodes[0].cut[0].used == 0  # those that hold parts are among the pods
    assert nodes[1].parts == {ONE: 0}
    for policy, cost_of in POLICIES.items():
        replay = Replay(nodes, pods, cost_of)
        outcome = replay.run(arrivals(pods, 0, 1, replay.asked_milli), 1)
        assert (outcome.placed, outcome.refused) == (4, 1), policy
        assert outcome.allocated == pytest.approx(100 * 4 * 125 / 2000)


def vector(*samples: tuple[dict[str, str], float]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1, str(value)]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def asked_of(pod: str, container: str, **amounts: float) -> list[tuple[dict[str, str], float]]:
    labels = {"namespace": "ml", "pod": pod, "container": container}
    return [(labels | {"resource": name}, amount) for name, amount in amounts.items()]


NODES = vector(
    *(
        ({"node": "a", "resource": name}, value)
        for name, value in {"cpu": 64.0, "memory": 512 * 2**30, "nvidia_com_gpu": 8.0}.items()
    )
)
PODS = vector(
    *asked_of("train", "main", cpu=4.5, memory=2**30, nvidia_com_gpu=2),
    *asked_of("train", "beside", cpu=0.5),
    *asked_of("notebook", "main", example_com_share=50),
    ({"resource": "cpu"}, 1.0),
)
TRACE = [Demand(gpus=1, gpu_milli=500), Demand(cpu_milli=5000, memory_mib=1024, gpus=2)]


def test_answers_of_prometheus_are_a_trace(tmp_path: Path) -> None:
    series = {"resultType": "matrix", "result": []}
    for one in PODS["data"]["result"]:
        values = [[1, "0"], [2, one["value"][1]], [3, "NaN"]]
        series["result"].append({"metric": one["metric"], "values": values})  # type: ignore[attr-defined]
    (tmp_path / "nodes.json").write_text(json.dumps(NODES))
    (tmp_path / "pods.json").write_text(json.dumps({"status": "success", "data": series}))
    given = flags(nodes=str(tmp_path / "nodes.json"), pods=str(tmp_path / "pods.json"))
    nodes, pods = read_trace(given, READING)
    assert [(n.name, n.cpu_milli, n.memory_mib, len(n.free)) for n in nodes] == [
        ("a", 64_000, 512 << 10, 8)
    ]
    assert pods == TRACE


@contextmanager
def prometheus() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)["query"][0]
            asked.append(query)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(NODES if "node_status" in query else PODS).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_prometheus_itself_is_asked_for_what_no_file_is_given(tmp_path: Path) -> None:
    with prometheus() as (url, asked):
        nodes, pods = read_trace(flags(prometheus=url, days="3"), READING)
        assert ([n.name for n in nodes], pods) == (["a"], TRACE)
        assert [query.rpartition("[")[2] for query in asked] == ["3d])", "3d])"]
        own = listed(tmp_path / "nodes.json", node("b", 2))
        assert read_trace(flags(prometheus=url, nodes=own), READING)[0][0].name == "b"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"items": [{"status": {"allocatable": {"cpu": "many"}}}]}', "not a quantity"),
        ('{"items": [{"metadata": 7}]}', "Expected `object`"),
        ('{"status": "error", "error": "no such metric"}', "no such metric"),
        ("{}", "the store answers 200"),
    ],
)
def test_json_that_is_no_trace_is_told(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "nodes.json").write_text(content)
    with pytest.raises(ConfigError, match=f"--nodes.*{told}"):
        read_trace(flags(nodes=str(tmp_path / "nodes.json"), prometheus="http://x"), READING)


def test_without_a_file_and_without_a_prometheus_it_is_told_what_to_give() -> None:
    with pytest.raises(ConfigError, match=r"--nodes.*a file, or --prometheus"):
        read_trace(flags(), READING)
    with pytest.raises(ConfigError, match=r"--days.*from 1 to 366"):
        read_trace(flags(prometheus="http://x", days="0"), READING)


@pytest.mark.slow
def test_the_command_takes_what_kubectl_prints(tmp_path: Path) -> None:
    nodes = listed(tmp_path / "nodes.json", node("a", 4))
    pods = listed(tmp_path / "pods.json", pod("p", gpus=1))
    given = ("--nodes", nodes, "--pods", pods, "--format", "json", "--power", "H100=50:700")
    done = run_command("simulate", *given)
    assert done.returncode == 0, done.stderr
    policies = json.loads(done.stdout)["policies"]
    assert [one["policy"] for one in policies] == [*POLICIES, "power"]
    assert policies[0]["drawn_watts"] == 4 * 700
