"""Metrics of runs."""

from collections.abc import Iterator

from deviceplugin.metrics.registry import Family


def series_of(running: int | None, ended: int, *, failing: bool) -> Iterator[Family]:
    """How many run, as far as it is known, how many ended, and whether they can be written."""
    holding = Family(
        "deviceplugin_runs_running", "gauge", "containers with GPUs whose runs are followed"
    )
    if running is not None:
        holding.add((), running)
        yield holding
    over = Family(
        "deviceplugin_runs_ended_total",
        "counter",
        "runs of containers with GPUs that ended, of those whose start is known",
    )
    over.add((), ended)
    yield over
    failed = Family("deviceplugin_runs_failing", "gauge", "1 while runs cannot be written")
    failed.add((), float(failing))
    yield failed
