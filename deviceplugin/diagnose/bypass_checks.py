"""The check for containers that use GPUs which they were not given; pure."""

from collections.abc import Iterator

from deviceplugin.bypass.judge import Bypass
from deviceplugin.diagnose.model import Judged, NodeCheck, Snapshot, passed, skipped, warned

NODE = "node"
_SHOWN = 5


def _unallocated(snapshot: Snapshot) -> Iterator[tuple[str, Judged]]:
    used = snapshot.node.unallocated
    if used is None:
        yield NODE, skipped(snapshot.node.unallocated_problem or "not looked at")
    elif not used:
        yield NODE, passed("every container that has a GPU open holds it")
    else:
        more = f" and {len(used) - _SHOWN} more" if len(used) > _SHOWN else ""
        yield NODE, warned("; ".join(map(_text, used[:_SHOWN])) + more)


def _text(one: Bypass) -> str:
    who = f"pod {one.namespace}/{one.pod}" if one.pod else f"container {one.container}"
    return f"{who} has {one.device} open"


UNALLOCATED = NodeCheck(
    name="unallocated_use",
    expected="a container that has a GPU open holds it, or security.bypass.allowed names its pod",
    source="/proc/PID/fd and cgroup, the running daemon",
    action="find how it gets the GPU: hostPath, privileged, its variables; see `render access`",
    judge=_unallocated,
)
