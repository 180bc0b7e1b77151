"""Replays with times: queues, waits, what is left, load, and the command."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from deviceplugin.scheduler.objects import Node
from deviceplugin.simulate.coming import Coming, Timed, at_load
from deviceplugin.simulate.compare import Rules, TimedOutcome, ready, replayed
from deviceplugin.simulate.policies import POLICIES
from deviceplugin.simulate.timed_report import span, timed_document, timed_plot, timed_text
from deviceplugin.simulate.timeline import BINS, Timeline, quantile
from tests.rig import run_command
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.partitions import asking, told
from tests.simulate.streams import READING, coming, linked


def outcome(
    nodes: Sequence[Document], pods: Sequence[Coming], rules: Rules | None = None
) -> TimedOutcome:
    trace = ready(Timed(nodes=msgspec.convert(nodes, list[Node]), staying=(), coming=pods))
    return replayed(trace, READING, rules or Rules(), (None, None))


def test_what_fits_nowhere_waits_until_another_leaves() -> None:
    found = outcome(
        [node("a", 1)],
        [
            coming(pod("first", 1), 100.0, 60.0),
            coming(pod("second", 1), 110.0, 60.0),
            coming(pod("third", 1), 120.0, 60.0),
        ],
    )
    assert found.waits == (0.0, 50.0, 100.0)
    assert (found.waited, found.never, found.most_waiting) == (2, 0, 2)
    assert found.seconds == 180.0


def test_the_queue_is_in_order_of_priority_then_of_time() -> None:
    urgent = pod("urgent", 1)
    urgent["spec"]["priority"] = 10
    found = outcome(
        [node("a", 1)],
        [
            coming(pod("runs", 1), 0.0, 100.0),
            coming(pod("early", 1), 1.0, 100.0),
            coming(urgent, 2.0, 100.0),
        ],
    )
    assert found.waits == (0.0, 98.0, 199.0)


def test_a_small_pod_passes_a_large_one_unless_a_node_is_kept() -> None:
    pods = [coming(pod(f"small-{n}", 1), 10.0 * n, 45.0) for n in range(40)]
    pods.append(coming(pod("large", 4), 35.0, 45.0))
    passed = outcome([node("a", 4)], pods)
    kept = outcome([node("a", 4)], pods, Rules(keep_after_s=60.0))
    assert passed.waits[-1] > 300
    assert kept.waits[-1] < 200


def test_what_never_gets_a_node_counts_until_the_end() -> None:
    found = outcome(
        [node("a", 2)],
        [
            coming(pod("stays", 2), 0.0, None),
            coming(pod("late", 1), 10.0, 5.0),
            coming(pod("wide", 4), 15.0, 5.0),
            coming(pod("plain"), 50.0, 50.0),
        ],
    )
    assert (found.never, found.fit_nowhere, found.waited) == (1, 1, 0)
    assert found.waits == (0.0, 90.0)  # the wide one fits on no node, and counts nowhere else
    assert found.most_waiting == 1
    assert found.seconds is None  # one never leaves
    assert found.levels.allocated == pytest.approx(100.0)


def test_means_are_weighted_by_time() -> None:
    found = outcome(
        [node("a", 4)],
        [
            coming(pod("half", 2), 0.0, 25.0),
            coming(pod("all", 4), 75.0, 25.0),
            coming(pod("end"), 100.0, 1.0),
        ],
    )
    assert found.levels.allocated == pytest.approx(37.5)
    assert len(found.points) == BINS
    assert sum(levels.allocated for _, levels in found.points) / BINS == pytest.approx(37.5)


def test_links_of_the_nodes_facts_decide_which_gpus_two_get() -> None:
    pair = pod("pair", 2)
    pair["metadata"]["annotations"] = {"deviceplugin/links": "required"}
    asked = [coming(pod("one", 1), 0.0, None), coming(pair, 2.0, None)]
    assert outcome([linked("a")], asked).never == 0  # 1 and 3
    asked.insert(1, coming(pod("two", 1), 1.0, None))  # takes 1, so 2 and 3 are left
    assert outcome([linked("a")], asked).never == 1
    assert outcome([node("a", 4)], asked).never == 0  # nothing is known of links there


def test_parts_of_gpus_are_taken_and_come_back() -> None:
    pods = [coming(asking(f"p{n}", one=1), float(n), 10.0) for n in range(4)]
    found = outcome([told("a", ((0, 1), (2,)))], pods)
    assert found.waits == (0.0, 0.0, 0.0, 7.0)  # what is held now is of pods that are in the trace
    assert found.levels.allocated > 0


def test_every_policy_waits_by_the_same_rules() -> None:
    pods = [coming(pod(f"p{n}", 1), float(n), 30.0) for n in range(12)]
    trace = Timed(nodes=msgspec.convert([node("a", 4)], list[Node]), staying=(), coming=pods)
    for cost_of in POLICIES.values():
        found = replayed(ready(trace), READING, Rules(), (cost_of, 3))
        assert (found.waited, found.never) == (8, 0)


def test_more_load_is_copies_and_less_load_is_some_of_the_pods() -> None:
    pods = [coming(pod(f"p{n}", 1), float(n), 30.0) for n in range(1000)]
    more, less = at_load(pods, 250, 1), at_load(pods, 40, 1)
    assert at_load(pods, 100, 1) == pods
    assert 2400 < len(more) < 2600
    assert 350 < len(less) < 450
    assert len({one.pod.key for one in more}) == len(more)
    assert {one.at for one in more} <= {one.at for one in pods}
    assert at_load(pods, 250, 1) == more


def test_a_group_is_copied_as_a_whole() -> None:
    members = []
    for number in range(3):
        one = pod(f"m{number}", 1)
        one["metadata"]["annotations"] = {
            "deviceplugin/pod-group": "g",
            "deviceplugin/pod-group-size": "3",
        }
        members.append(coming(one, float(number), 30.0))
    copied = at_load(members, 200, 1)
    assert sorted(one.group for one in copied) == ["ml/g"] * 3 + ["ml/g-copy-1"] * 3
    assert outcome([node("a", 4)], members).waits == (0.0, 1.0, 2.0)  # for the last of them


def test_a_report_says_how_long_and_draws_two_panels() -> None:
    pods = [coming(pod(f"p{n}", 1), 100.0 * n, 7200.0) for n in range(6)]
    pods.append(coming(pod("wide", 9), 0.0, 1.0))
    found = {"a<b": [outcome([node("a", 2)], pods)]}
    document = timed_document(found, 100)
    text = timed_text(document)
    assert "on empty ones, and that do not count: 1" in text
    assert "6.0 h" in text
    assert timed_plot(document).count("<polyline") == 2
    assert "a&lt;b" in timed_plot(document)
    assert [span(s) for s in (None, 0, 90, 86_400 * 3)] == ["-", "0 s", "1.5 min", "3.0 d"]


def test_a_timeline_of_a_moment_has_a_length_and_nothing_has_no_quantile() -> None:
    line = Timeline(5.0, 5.0)
    line.now.allocated = 8.0
    line.until(9.0)
    assert line.means().allocated == pytest.approx(8.0)
    assert quantile((), 0.5) is None
    assert quantile((1.0, 2.0, 3.0), 0.5) == 2.0


TIMED = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,scheduled_time,deletion_time\n"
    "a,1000,1,4,1000,0,0,100\nb,1000,1,4,1000,10,200,300\nc,1000,1,1,500,20,,\n"
)
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,1000,4,A\n"


@pytest.mark.slow
def test_the_command_prints_waits_and_writes_a_plot(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(TIMED)
    files = ("--nodes", str(tmp_path / "nodes.csv"), "--pods", str(tmp_path / "pods.csv"))
    plot = tmp_path / "plot.svg"
    done = run_command("simulate", "--timed", *files, "--format", "json", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [one["policy"] for one in document["policies"]] == list(POLICIES)
    first = document["policies"][0]
    assert (first["waited"], first["longest_s"], first["makespan_s"]) == (2, 180.0, None)
    assert plot.read_text().startswith("<svg")
    refused = run_command("simulate", "--timed", *files, "--until", "90")
    assert (refused.returncode, "--until: '90'" in refused.stderr) == (2, True)
    refused = run_command("simulate", *files, "--load", "120")
    assert (refused.returncode, "together with --timed" in refused.stderr) == (2, True)
