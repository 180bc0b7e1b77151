"""How devices and sets of counters are laid into slices, by the release of the API server; pure.

Few slices, and each GPU that can be cut in one of its own: a change of one is then one update.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from deviceplugin.dra.document import Content
from deviceplugin.dra.gates import Cluster
from deviceplugin.dra.limits import (
    MAX_CONSUMPTIONS_BEFORE_135,
    MAX_DEVICES,
    MAX_SETS,
    MAX_TAINTED_DEVICES,
    SliceDevice,
    counters_fit,
    is_label,
)
from deviceplugin.dra.names import MAX_LABEL

T = TypeVar("T")


def contents_of(
    plain: Sequence[SliceDevice], divided: Sequence[Content], cluster: Cluster
) -> tuple[tuple[Content, ...], tuple[str, ...]]:
    """The contents of the slices, at least one, and what is not among them. Each of `divided` has
    one set of counters and the devices that take of it; one that the API server would not take is
    published whole alone."""
    told: list[str] = []
    ordinary, fitting = list(plain), []
    for one in divided:
        problems = list(_problems(one, cluster))
        told += problems
        if problems:
            ordinary += _whole(one)
        else:
            fitting.append(one)
    size = MAX_TAINTED_DEVICES if cluster.has("DRADeviceTaints") else MAX_DEVICES
    rest = [Content(devices=part) for part in _parts(ordinary, size)]
    if not cluster.separate_counters:
        return (*rest, *fitting) or (Content(),), tuple(told)
    sets = [pair for one in fitting for pair in one.sets.items()]
    found = [Content(sets=dict(part)) for part in _parts(sets, MAX_SETS)] + rest
    for one in fitting:
        found += [Content(devices=part) for part in _parts(one.devices, MAX_TAINTED_DEVICES)]
    return tuple(found) or (Content(),), tuple(told)


def _parts(things: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(things), size):
        yield tuple(things[start : start + size])


def _whole(content: Content) -> Iterator[SliceDevice]:
    """What takes all there is; its parts are not there, so it need not take anything."""
    for device in content.devices:
        if device.consumes == content.sets and not device.policies:
            yield replace(device, consumes={})


def _problems(content: Content, cluster: Cluster) -> Iterator[str]:
    """Why a GPU cannot be published with its parts: in a pool in which a set or a counter is
    missing every allocation on the node fails."""
    for name, counters in content.sets.items():
        if not is_label(name) or not counters_fit(counters):
            yield f"counters {name[:MAX_LABEL]}: they are not ones that are accepted"
    for device in content.devices:
        for name, taken in device.consumes.items():
            there = content.sets.get(name, {})
            if any(amount > there.get(counter, -1) for counter, amount in taken.items()):
                yield f"device {device.name}: it takes more of {name} than there is"
    if cluster.separate_counters:
        return
    amounts = sum(len(taken) for one in content.devices for taken in one.consumes.values())
    if amounts > MAX_CONSUMPTIONS_BEFORE_135 or len(content.devices) > MAX_DEVICES:
        names = ", ".join(sorted(content.sets))
        yield f"counters {names}: more takes of them than this release has room for in a slice"
