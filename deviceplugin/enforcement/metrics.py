"""Metrics of enforcement."""

from collections.abc import Iterator

from deviceplugin.enforcement.around import Around
from deviceplugin.enforcement.node import Enforcer
from deviceplugin.metrics.registry import Family


def series_of(enforcer: Enforcer, around: Around) -> Iterator[Family]:
    """What holds, what was set, and who uses more than was granted."""
    if enforcer.is_limiting:
        yield _force(enforcer, around)
        yield _limits(around)
    yield from _uses(enforcer, around)


def _force(enforcer: Enforcer, around: Around) -> Family:
    force = Family(
        "deviceplugin_memory_limit_in_force",
        "gauge",
        "1 where slices of a device are held to their memory; the reason says why they are not",
        ["device", "reason"],
    )
    for device in sorted(around.devices().values(), key=lambda one: one.id):
        reason = enforcer.standing.why_not(device)
        force.add([device.id, reason], float(not reason))
    return force


def _limits(around: Around) -> Family:
    counts = around.counts
    family = Family(
        "deviceplugin_memory_limits_total",
        "counter",
        "Limits on the memory of containers, by what became of them",
        ["result"],
    )
    family.add(["set_by_runtime"], counts.by_runtime)
    family.add(["set_in_cgroup"], counts.by_cgroup)
    family.add(["container_refused"], counts.refused)
    family.add(["not_set"], counts.failed)
    return family


def _uses(enforcer: Enforcer, around: Around) -> Iterator[Family]:
    """By container where metrics may name those; how many there are in any case."""
    over = Family(
        "deviceplugin_slices_exceeded",
        "gauge",
        "Containers that use more of a device's memory than was granted",
        ["device"],
    )
    counts: dict[str, int] = {}
    for _, device in enforcer.uses:
        counts.setdefault(device, 0)
    for _, device in enforcer.over:
        counts[device] = counts.get(device, 0) + 1
    for name, count in sorted(counts.items()):
        over.add([name], count)
    yield over
    if around.shows_pods():
        used = Family(
            "deviceplugin_slice_used_bytes",
            "gauge",
            "Memory of a device that a container with slices of it uses",
            ["namespace", "pod", "container", "device"],
        )
        for (holder, device), use in enforcer.uses.items():
            used.add([holder.namespace, holder.pod, holder.container, device], use.used_bytes)
        yield used
