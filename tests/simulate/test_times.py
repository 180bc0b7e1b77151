"""Times of pods, read from CSV, from what kubectl prints, and from a Prometheus."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cli.traces import read_timed
from deviceplugin.errors import ConfigError
from deviceplugin.simulate.export import TIMES, spans_asked
from deviceplugin.simulate.trace import read_coming
from tests.scheduler.objects import node, pod
from tests.simulate.test_cluster import READING, asked_of, bound, flags, listed

HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,scheduled_time,deletion_time\n"


def test_a_pod_of_csv_runs_for_as_long_as_it_ran(tmp_path: Path) -> None:
    file = tmp_path / "pods.csv"
    file.write_text(
        HEAD + "ran,1,1,1,1000,10,40.5,100\nnever-ran,1,1,0,0,10,,100\nstays,1,1,0,0,5,5,\n"
    )
    found = {one.pod.metadata.name: (one.at, one.seconds) for one in read_coming(file)}
    assert found == {"ran": (10, 59.5), "never-ran": (10, 90), "stays": (5, None)}


def test_a_namespace_and_a_priority_may_be_given(tmp_path: Path) -> None:
    file = tmp_path / "pods.csv"
    head = HEAD.strip() + ",namespace,priority\n"
    file.write_text(head + "p,1,1,1,1000,10,,,ml,7\nq,1,1,1,1000,10,,,,\n")
    one, other = read_coming(file)
    assert (one.pod.metadata.namespace, one.pod.spec.priority) == ("ml", 7)
    assert (other.pod.metadata.namespace, other.pod.spec.priority) == ("default", 0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("p,1,1,1,1000,,,", "line 2: creation_time: '' is not valid, expected seconds"),
        ("p,1,1,1,1000,-5,,", "line 2: creation_time: '-5'"),
        ("p,1,1,1,1000,ten,,", "line 2: creation_time: 'ten'"),
        ("p,1,1,1,1000,999999999999,,", "line 2: creation_time: '999999999999'"),
        ("p,1,1,1,1000,10,9,", r"line 2: scheduled_time: '9'.*10 \(creation_time\) or more"),
        ("p,1,1,1,1000,10,20,15", r"line 2: deletion_time: '15'.*20 \(scheduled_time\) or more"),
        ("p,1,1,1,1000,10,,5", r"line 2: deletion_time: '5'.*10 \(creation_time\) or more"),
        ("p,1,1,-1,1000,10,,", "line 2: num_gpu: '-1'"),
        ("p,1,1,1,1000,1,,\np,1,1,1,1000,1,,", "line 3: name: 'p'.*each name once"),
    ],
)
def test_times_that_cannot_be_are_told_with_line_and_column(
    tmp_path: Path, row: str, told: str
) -> None:
    file = tmp_path / "pods.csv"
    file.write_text(HEAD + row + "\n")
    with pytest.raises(ConfigError, match=told):
        read_coming(file)


def test_a_file_without_times_is_told_which_column_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "pods.csv"
    file.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\n")
    with pytest.raises(ConfigError, match="creation_time"):
        read_timed(flags(pods=str(file), nodes=str(file)), READING)
    file.write_text(HEAD)
    with pytest.raises(ConfigError, match="at least one"):
        read_timed(flags(pods=str(file), nodes=str(file)), READING)


def at(minute: int) -> str:
    return f"2026-01-31T12:{minute:02}:00Z"


def ran(name: str, phase: str, made: int, began: int, ended: int | None = None) -> dict[str, Any]:
    found = pod(name, gpus=1, node="a")
    found["metadata"]["creationTimestamp"] = at(made)
    found["status"] = {"phase": phase, "startTime": at(began)}
    if ended is not None:
        state = {"terminated": {"finishedAt": at(ended)}}
        found["status"]["containerStatuses"] = [{"state": state}, {"state": {"running": {}}}]
    return found


def test_pods_of_the_cluster_have_their_times(tmp_path: Path) -> None:
    evicted = ran("evicted", "Failed", 0, 1)
    evicted["status"]["conditions"] = [{"lastTransitionTime": at(5)}]
    waiting = pod("waiting", gpus=1)
    waiting["metadata"]["creationTimestamp"] = at(7)
    agent = bound("agent", "DaemonSet")
    given = flags(
        nodes=listed(tmp_path / "nodes.json", node("a", 4)),
        pods=listed(
            tmp_path / "pods.json",
            ran("done", "Succeeded", 0, 2, 12),
            ran("running", "Running", 3, 4),
            evicted,
            waiting,
            agent,
        ),
    )
    trace = read_timed(given, READING)
    start = trace.coming[0].at
    found = {one.pod.metadata.name: (one.at - start, one.seconds) for one in trace.coming}
    assert found == {
        "done": (0, 600),
        "running": (180, None),
        "evicted": (0, 240),
        "waiting": (420, None),
    }
    assert not any(one.pod.spec.node_name for one in trace.coming)
    assert [one.metadata.name for one in trace.staying] == ["agent"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metadata": {"creationTimestamp": None}}, "ml/p: metadata.creationTimestamp: nothing"),
        ({"status": {"startTime": at(0)}}, "ml/p: status.startTime: .* is before"),
        ({"status": {"startTime": "noon"}}, "ml/p: 'noon' is no time"),
        ({"status": {"containerStatuses": []}}, "ml/p: it has ended, and neither"),
    ],
)
def test_a_pod_whose_times_cannot_be_is_named(
    tmp_path: Path, change: dict[str, dict[str, Any]], told: str
) -> None:
    wrong = ran("p", "Succeeded", 2, 3, 9)
    for part, values in change.items():
        wrong[part] |= values
    given = flags(
        nodes=listed(tmp_path / "nodes.json", node("a", 4)),
        pods=listed(tmp_path / "pods.json", wrong),
    )
    with pytest.raises(ConfigError, match=told):
        read_timed(given, READING)
    early = listed(tmp_path / "pods.json", ran("p", "Succeeded", 2, 9, 5))
    with pytest.raises(ConfigError, match="is before its start"):
        read_timed(given | {"pods": early}, READING)


def test_a_prometheus_knows_when_pods_came_began_and_ended() -> None:
    told = {
        "created": {"done": 0.0, "gone": 10.0, "here": 20.0, "waits": 30.0},
        "start": {"done": 5.0, "gone": 12.0, "here": 21.0},
        "completion": {"done": 50.0},
        "seen": {"done": 9000.0, "gone": 600.0, "here": 9000.0, "waits": 9000.0},
    }
    by_query = {query.format(w="3d"): told[of] for of, query in TIMES.items()}
    spans = spans_asked(
        lambda query: [({"namespace": "ml", "pod": n}, v) for n, v in by_query[query].items()], "3d"
    )
    assert spans == {
        "ml/done": (0.0, 5.0, 50.0),
        "ml/gone": (10.0, 12.0, 600.0),
        "ml/here": (20.0, 21.0, None),
        "ml/waits": (30.0, 30.0, None),
    }


def test_a_range_of_prometheus_is_a_trace_with_times(tmp_path: Path) -> None:
    def series(pod: str, *moments: int) -> dict[str, Any]:
        (labels, amount), *_ = asked_of(pod, "main", nvidia_com_gpu=2)
        return {"metric": labels, "values": [[moment, str(amount)] for moment in moments]}

    result = [series("early", 0, 60, 120), series("late", 120, 180, 240)]
    reply = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    (tmp_path / "pods.json").write_text(json.dumps(reply))
    given = flags(
        nodes=listed(tmp_path / "nodes.json", node("a", 4)), pods=str(tmp_path / "pods.json")
    )
    trace = read_timed(given, READING)
    assert [(one.at, one.seconds, one.demand.gpus) for one in trace.coming] == [
        (0.0, 120.0, 2),
        (120.0, None, 2),
    ]
    moment = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}
    (tmp_path / "pods.json").write_text(json.dumps({"status": "success", "data": moment}))
    with pytest.raises(ConfigError, match="--timed an answer of query_range"):
        read_timed(given, READING)
