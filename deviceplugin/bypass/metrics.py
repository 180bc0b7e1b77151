"""Metrics of GPUs that are used by who does not hold them."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from deviceplugin.bypass.judge import Found
from deviceplugin.metrics.registry import Family


class Shown(Struct, frozen=True, kw_only=True):
    """What the last look found, None before the first one; names of pods where `pods`."""

    found: Found | None
    unseen: int
    failing: bool
    pods: bool


def series_of(shown: Shown) -> Iterator[Family]:
    """Processes by device and pod, and what could not be looked at."""
    failing = Family(
        "deviceplugin_bypass_failing", "gauge", "1 while nobody can look who uses GPUs unallocated"
    )
    failing.add((), float(shown.failing))
    yield failing
    if shown.found is None:
        return
    unseen = Family(
        "deviceplugin_bypass_unseen_processes",
        "gauge",
        "Processes that could not be looked into, or whose pod has no known name",
    )
    unseen.add((), float(shown.unseen))
    yield unseen
    yield _processes(shown.found, pods=shown.pods)


def _processes(found: Found, *, pods: bool) -> Family:
    """By device, and by pod where pods may be named."""
    labels = ("device", "namespace", "pod") if pods else ("device",)
    processes = Family(
        "deviceplugin_bypass_processes",
        "gauge",
        "Processes of containers that have a GPU open which was not allocated to them",
        labels,
    )
    counts: Counter[tuple[str, ...]] = Counter()
    for one, pids in found.items():
        counts[(one.device, one.namespace, one.pod)[: len(labels)]] += len(pids)
    for values, count in sorted(counts.items()):
        processes.add(values, float(count))
    return processes
