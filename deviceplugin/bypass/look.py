"""Which processes of containers have nodes of GPUs open: /proc/PID/fd and cgroup. Blocking.

Needed are the host's /proc and CAP_SYS_PTRACE (components/processes of deploy/). A node that a
container has under another name is not seen.
"""

import os
import re
from collections.abc import Collection

from deviceplugin.bypass.judge import Opener, Pod, Seen
from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.open_files import read_open_files
from deviceplugin.host.optional import optional_text
from deviceplugin.telemetry.who import parse_pod_uid, read_pods

MAX_OPENERS = 4096
NO_PROC = (
    "the host's /proc is not to be seen; components/processes of deploy/ mounts it, with SYS_PTRACE"
)
_CONTAINER = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}(?=\.scope|[/\n]|$)")


def look(host: Host, own: Host, nodes: Collection[str]) -> Seen:
    """Every opener, but this daemon's own processes; `own` is where it finds its own /proc."""
    if not host.exists("/proc/1"):
        return Seen(problem=NO_PROC)
    names = {uid: (pod.namespace, pod.name) for uid, pod in read_pods(host)}
    found: list[Opener] = []
    unseen = 0
    ours = _Ours(host, own)
    try:
        for pid, files in read_open_files(host):
            if files is None:
                unseen += 1
                continue
            opened = frozenset(files.values()).intersection(nodes)
            if not opened or pid in ours:
                continue
            opener, named = _opener(host, pid, opened, names)
            unseen += not named
            if opener is not None and len(found) < MAX_OPENERS:
                found.append(opener)
    except DiscoveryError as error:
        return Seen(problem=str(error))
    return Seen(openers=tuple(found), unseen=unseen)


def _opener(
    host: Host, pid: int, opened: frozenset[str], names: dict[str, Pod]
) -> tuple[Opener | None, bool]:
    """None for a process of no container, or of a pod whose name is not known (False)."""
    text = optional_text(host, f"/proc/{pid}/cgroup") or ""
    ids = _CONTAINER.findall(text)
    container = ids[-1] if ids else ""
    uid = parse_pod_uid(text)
    if uid is None:
        opener = Opener(pid=pid, nodes=opened, pod=None, container=container)
        return (opener if container else None), True
    pod = names.get(uid)
    if pod is None:
        return None, False
    return Opener(pid=pid, nodes=opened, pod=pod, container=container), True


class _Ours:
    """This process, and those of its container: they have a namespace of process ids together."""

    def __init__(self, host: Host, own: Host) -> None:
        mine = own.read_link("/proc/self/ns/pid")
        self._host, self._shared = host, mine == _namespace(host, 1)
        self._mine = mine

    def __contains__(self, pid: int) -> bool:
        if self._mine is None:
            return False
        if self._shared:
            return pid == os.getpid()
        return _namespace(self._host, pid) == self._mine


def _namespace(host: Host, pid: int) -> str | None:
    try:
        return host.read_link(f"/proc/{pid}/ns/pid")
    except DiscoveryError:
        return None
