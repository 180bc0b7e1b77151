"""Runs out of a Prometheus: what becomes of its series."""

from deviceplugin.learning.prometheus import QUERIES, read_runs
from deviceplugin.learning.runs import Run
from deviceplugin.metrics.reply import Sample

NOW = 1_000_000.0


def series(pod: str, value: float, **labels: str) -> Sample:
    return {"namespace": "ml", "pod": pod, **labels}, value


FOUND: dict[str, list[Sample]] = {
    "start": [series("job-1", NOW - 5000), series("gone", NOW - 9000), series("runs", NOW - 10)],
    "completion": [series("job-1", NOW - 1000)],
    "seen": [series("job-1", NOW), series("gone", NOW - 3000), series("runs", NOW - 60)],
    "owner": [series("job-1", 1, owner_kind="Job", owner_name="job-28912345")],
    "asked": [series(pod, 1, container="main") for pod in ("job-1", "gone", "runs", "unknown")],
    "memory": [
        series("job-1", 2 << 30, container="main", uuid="a"),
        series("job-1", 3 << 30, container="main", uuid="b"),
    ],
    "busy": [series("job-1", 0.7, container="main")],
}


def test_a_run_is_from_its_start_to_its_end_or_to_when_its_pod_was_seen_last() -> None:
    def ask(query: str) -> list[Sample]:
        (of,) = (name for name, text in QUERIES.items() if text.format(w="1440m") == query)
        return FOUND[of]

    whole, gone = read_runs(ask, NOW, 86_400)
    assert whole == Run(
        namespace="ml",
        owner="job",
        container="main",
        start=NOW - 5000,
        seconds=4000,
        peak_mib=3072,
        busy_ratio=0.7,
    )
    assert (gone.owner, gone.seconds, gone.peak_mib) == ("gone", 6000, None)
