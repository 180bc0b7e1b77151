"""Who uses a GPU without holding it, as far as that is certain; pure.

A node that several GPUs share (nvidiactl, kfd) says nothing about one of them. What a pod holds is
known a moment after it was given, and of an init container perhaps never: a pod that may hold
something is not judged.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from deviceplugin.model import Device, DeviceID

Pod = tuple[str, str]  # namespace and name
_OF_ONE_GPU = re.compile(r".*[0-9]")  # such as nvidia0, renderD128, vfio/17


class Opener(Struct, frozen=True, kw_only=True):
    """A process in a container that has nodes of GPUs open. `pod` is None outside of pods,
    `container` the start of its id, empty where it is not told."""

    pid: int
    nodes: frozenset[str]
    pod: Pod | None
    container: str = ""


class Seen(Struct, frozen=True, kw_only=True):
    """One look: `unseen` processes could not be looked into, or not be named. `problem` says why
    nothing was looked at."""

    openers: tuple[Opener, ...] = ()
    unseen: int = 0
    problem: str = ""


class Held(Struct, frozen=True, kw_only=True):
    """Who holds each device; `perhaps` are pods that may hold one that nobody is known to hold,
    None where that may be any."""

    by_device: Mapping[DeviceID, frozenset[Pod]]
    perhaps: frozenset[Pod] | None = frozenset()


class Bypass(Struct, frozen=True, order=True):
    """A GPU or partition in use by who does not hold it; without a pod by a container."""

    device: DeviceID
    namespace: str
    pod: str
    container: str


Found = Mapping[Bypass, tuple[int, ...]]  # with the processes


def own_nodes(devices: Iterable[Device]) -> Mapping[str, frozenset[DeviceID]]:
    """The nodes by which a device is used, each with the devices behind it."""
    found: dict[str, set[DeviceID]] = {}
    for device in devices:
        for path in device.nodes:
            if _OF_ONE_GPU.fullmatch(path):
                found.setdefault(path, set()).add(device.id)
    return {path: frozenset(ids) for path, ids in found.items()}


def judged(
    openers: Iterable[Opener],
    nodes: Mapping[str, frozenset[DeviceID]],
    held: Held,
    allowed: Sequence[str],
) -> Found:
    """Each GPU that a process has open and its pod does not hold."""
    found: dict[Bypass, list[int]] = {}
    for opener in openers:
        if not _is_judged(opener.pod, held, allowed):
            continue
        for device in _not_held(opener, nodes, held):
            namespace, pod = opener.pod or ("", "")
            container = "" if opener.pod else opener.container
            found.setdefault(Bypass(device, namespace, pod, container), []).append(opener.pid)
    return {bypass: tuple(sorted(pids)) for bypass, pids in sorted(found.items())}


def _is_judged(pod: Pod | None, held: Held, allowed: Sequence[str]) -> bool:
    if pod is None:
        return True
    if held.perhaps is None or pod in held.perhaps:
        return False
    return not is_allowed(pod, allowed)


def is_allowed(pod: Pod, allowed: Sequence[str]) -> bool:
    """Whether a pod may use GPUs that it does not hold."""
    namespace, name = pod
    return any(
        fnmatchcase(f"{namespace}/{name}" if "/" in pattern else namespace, pattern)
        for pattern in allowed
    )


def _not_held(
    opener: Opener, nodes: Mapping[str, frozenset[DeviceID]], held: Held
) -> Iterator[DeviceID]:
    """Of a node of several devices (a GPU and its partitions) one that is held is enough."""
    for path in sorted(opener.nodes):
        behind = nodes.get(path, frozenset())
        if not any(opener.pod in held.by_device.get(one, ()) for one in behind):
            yield from sorted(behind)[:1]
