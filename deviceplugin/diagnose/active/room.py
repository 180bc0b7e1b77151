"""Whether this container may have the memory that a test needs.

The kernel ends a whole container that has more than its limit: with `kubectl exec` that is the
daemon's. So a test that would not fit is not begun. Blocking.
"""

from collections.abc import Iterator

from msgspec import Struct

from deviceplugin.host import Host
from deviceplugin.host.optional import optional_text

NEEDED = 128 << 20  # with the driver of CUDA; 99 MiB were charged for all of it with an H200
_MIB = 1 << 20
_OWN = "/proc/self/cgroup"


class _Version(Struct, frozen=True, kw_only=True):
    """Where a version of cgroups has them, and the names of its files."""

    tree: str
    limit: str
    used: str
    cache: str


_V2 = _Version(
    tree="/sys/fs/cgroup", limit="memory.max", used="memory.current", cache="inactive_file"
)
_V1 = _Version(
    tree="/sys/fs/cgroup/memory",
    limit="memory.limit_in_bytes",
    used="memory.usage_in_bytes",
    cache="total_inactive_file",
)


def lacking_room(own: Host) -> str:
    """What is missing and what to do, empty where there is room or no limit is known."""
    left = min(_left(own), default=None)
    if left is None or left >= NEEDED:
        return ""
    return (
        f"this container may have {max(0, left) // _MIB} MiB of memory more, a test needs"
        f" {NEEDED // _MIB}: raise resources.limits.memory by {-(-(NEEDED - left) // _MIB)}Mi"
    )


def _left(own: Host) -> Iterator[int]:
    """Of each cgroup from our own to the root that has a limit. In a container its own one is the
    root, whatever the kernel calls it on the host."""
    for line in (optional_text(own, _OWN) or "").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not (version := _version_of(number, controllers)):
            continue
        for folder in _upwards(version.tree, path):
            most, now = (_number(own, f"{folder}/{name}") for name in (version.limit, version.used))
            if most is not None and now is not None:
                yield most - now + _cached(own, f"{folder}/memory.stat", version.cache)


def _version_of(number: str, controllers: str) -> _Version | None:
    if number == "0" and not controllers:
        return _V2
    return _V1 if controllers == "memory" else None


def _upwards(tree: str, path: str) -> Iterator[str]:
    words = [word for word in path.split("/") if word and word != ".."]
    for length in range(len(words), -1, -1):
        yield "/".join((tree, *words[:length]))


def _cached(own: Host, path: str, key: str) -> int:
    """What the kernel takes back before it ends anything: pages of files."""
    for line in (optional_text(own, path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdecimal():
            return int(value)
    return 0


def _number(own: Host, path: str) -> int | None:
    text = optional_text(own, path) or ""
    return int(text) if text.isdecimal() else None  # `max` is no limit
