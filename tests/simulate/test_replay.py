"""Traces, replays, and the command."""

import json
import random
from pathlib import Path

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.policies import POLICIES
from deviceplugin.simulate.replay import Replay
from deviceplugin.simulate.report import document_of, plot, simulation_text
from deviceplugin.simulate.trace import arrivals, read_nodes, read_pods
from tests.rig import run_command

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,1000,2,A\nn2,64000,1000,4,B\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "p2,1000,1,1,500,A|B\np1,1000,1,2,1000,\np3,1000,1,0,0,\n"
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    return tmp_path


def test_a_trace_is_read_by_name(trace: Path) -> None:
    nodes, pods = read_nodes(trace / "nodes.csv"), read_pods(trace / "pods.csv")
    assert [node.free for node in nodes] == [[1000] * 2, [1000] * 4]
    assert pods == [
        Demand(cpu_milli=1000, memory_mib=1, gpus=2),
        Demand(cpu_milli=1000, memory_mib=1, gpus=1, gpu_milli=500, models=frozenset("AB")),
        Demand(cpu_milli=1000, memory_mib=1),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("name,cpu_milli\n", "memory_mib"),
        (PODS + "p4,x,1,0,0,\n", "line 5: cpu_milli: 'x'"),
        (PODS + "p4,1,1,1,1001,\n", "line 5: gpu_milli: '1001'"),
        (PODS + "p4,1,1,2,500,\n", "1000 for a pod with several GPUs"),
        (PODS + "p4,1,1,1,0,\n", "a number from 1 to 1000"),
        (PODS + "p4,1,1\n", "line 5: num_gpu: ''"),
        ("\0", "columns"),
        (None, "No such file"),
    ],
    ids=["columns", "text", "too much", "several", "none", "short", "zero byte", "absent"],
)
def test_a_trace_that_is_none_is_refused_with_its_line(
    tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "pods.csv").write_text(content)
    with pytest.raises(ConfigError, match=told):
        read_pods(tmp_path / "pods.csv")


def test_an_order_is_repeated_by_its_seed_and_reaches_what_is_asked(trace: Path) -> None:
    pods = read_pods(trace / "pods.csv")
    order = arrivals(pods, 9000, 1)
    assert order == arrivals(pods, 9000, 1)
    assert order != arrivals(pods, 9000, 2)
    assert 9000 <= sum(pod.total_milli for pod in order) < 11_000
    assert arrivals([Demand()], 9000, 1) == [Demand()]  # no GPU is ever requested


@pytest.mark.parametrize("policy", POLICIES)
def test_no_gpu_is_given_twice(policy: str) -> None:
    chance = random.Random(3)
    kinds = [Demand(cpu_milli=1000, gpus=1, gpu_milli=m) for m in (300, 450, 810, 1000)]
    pods = [*chance.choices(kinds, k=60), Demand(cpu_milli=2000, gpus=4), Demand(cpu_milli=500)]
    nodes = [NodeState(f"n{n}", "A", 20_000, 100, [1000] * 4) for n in range(8)]
    replay = Replay(nodes, pods, POLICIES[policy])
    outcome = replay.run(arrivals(pods, 60_000, 1), 1)
    left = [milli for node in replay.board.nodes.values() for milli in node.free]
    assert min(left) >= 0
    assert all(node.cpu_milli >= 0 for node in replay.board.nodes.values())
    assert outcome.allocated == pytest.approx(100 * (32_000 - sum(left)) / 32_000)
    assert outcome.placed + outcome.refused == len(arrivals(pods, 60_000, 1))
    assert all(len(node.free) * 1000 == sum(node.free) for node in nodes)  # a replay has its own


def test_packing_places_more_than_first_fit_where_gaps_matter() -> None:
    kinds = [(810, 20), (650, 10), (470, 25), (320, 25), (230, 10), (1000, 20)]
    pods = [Demand(cpu_milli=9000, gpus=1, gpu_milli=m) for m, n in kinds for _ in range(n)]
    pods += [Demand(cpu_milli=20_000)] * 10
    nodes = [NodeState(f"n{n}", "A", 96_000, 100, [1000] * 8) for n in range(12)]

    def allocated(policy: str) -> float:
        replays = [(Replay(nodes, pods, POLICIES[policy]), seed) for seed in range(5)]
        return sum(one.run(arrivals(pods, 124_000, s), s).allocated for one, s in replays)

    assert allocated("packing") > allocated("first-fit")


def test_a_report_has_a_row_and_a_line_for_each_policy(trace: Path) -> None:
    nodes, pods = read_nodes(trace / "nodes.csv"), read_pods(trace / "pods.csv")
    outcomes = {
        name: [Replay(nodes, pods, cost_of).run(pods, 1)] for name, cost_of in POLICIES.items()
    }
    document = document_of(outcomes)
    assert [one["allocated_percent"] for one in document["policies"]] == [41.67] * 4
    assert simulation_text(document).count("41.67 %") == 4
    assert plot(document).count("<polyline") == 4


def test_a_report_says_from_when_on_pods_were_refused(trace: Path) -> None:
    nodes = read_nodes(trace / "nodes.csv")
    pods = [Demand(cpu_milli=1000, gpus=1)] * 8
    (one,) = document_of({"packing": [Replay(nodes, pods, POLICIES["packing"]).run(pods, 1)]})[
        "policies"
    ]
    assert (one["refused"], one["first_refused_at_percent"]) == (2, 116.7)
    assert [point["refused"] for point in one["points"]][-3:] == [1, 2, 2]
    (free,) = document_of({"packing": [Replay(nodes, pods, POLICIES["packing"]).run(pods[:3], 1)]})[
        "policies"
    ]
    assert free["first_refused_at_percent"] is None


@pytest.mark.slow
def test_the_command_prints_figures_and_writes_a_plot(trace: Path) -> None:
    files = ("--nodes", str(trace / "nodes.csv"), "--pods", str(trace / "pods.csv"))
    done = run_command("simulate", *files, "--format", "json", "--plot", str(trace / "plot.svg"))
    assert done.returncode == 0, done.stderr
    policies = json.loads(done.stdout)["policies"]
    assert [one["policy"] for one in policies] == list(POLICIES)
    assert (trace / "plot.svg").read_text().startswith("<svg")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--policies", "best"), "--policies: 'best' is not valid, expected one of packing"),
        (("--until", "0"), "--until: '0' is not valid, expected a number from 1 to 1000"),
        (("--plot", "/proc/none/plot"), "--plot: '/proc/none/plot'"),
    ],
    ids=["policy", "until", "plot"],
)
def test_the_command_says_what_to_write_instead(
    trace: Path, flags: tuple[str, ...], told: str
) -> None:
    files = ("--nodes", str(trace / "nodes.csv"), "--pods", str(trace / "pods.csv"))
    done = run_command("simulate", *files, *flags)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
