"""Which pod a process runs in: its cgroup has the pod's UID, the kubelet's folder of logs its name.

A pod whose name cannot be found (its logs are not mounted) is named by its UID, which other
exporters have as well. Blocking; only where processes are asked for.
"""

import re
from collections.abc import Collection, Iterator, Sequence

import structlog
from msgspec import Struct

from deviceplugin.host import Host
from deviceplugin.host.optional import optional_names, optional_text
from deviceplugin.model import DeviceID
from deviceplugin.names import one_line
from deviceplugin.telemetry.model import Owner, ProcessUse
from deviceplugin.telemetry.state import Holders
from deviceplugin.vendor import DeviceProcess

log = structlog.get_logger()

POD_LOGS = "/var/log/pods"
MAX_PROCESSES = 2048
MAX_TOLD = 1000
# The cgroup drivers cgroupfs (pod0f6…-…) and systemd (…-pod0f6…_….slice); a static pod's UID is a
# hash without hyphens.
_POD = re.compile(
    r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./\n]|$)"
)


class Pod(Struct, frozen=True):
    """Of the node: `containers` is empty where they cannot be read."""

    namespace: str
    name: str
    containers: tuple[str, ...] = ()


class Finder:
    """Finds the pods of processes; `names` gives a process's name and start, None for one that is
    gone."""

    def __init__(self, host: Host, names: "ProcessNames") -> None:
        self._host, self._names = host, names
        self._pods: dict[str, Pod] = {}
        self._uids: dict[tuple[int, float], str | None] = {}
        self._told: set[tuple[int, float]] = set()

    def uses(
        self,
        processes: Sequence[DeviceProcess],
        holders: Holders,
        tested: Collection[DeviceID] = (),
    ) -> tuple[ProcessUse, ...]:
        """The processes with their names and the containers they run in, sorted; those of a device
        that is tested are the test's."""
        alive: dict[tuple[int, float], str | None] = {}
        found = []
        for process in processes[:MAX_PROCESSES]:
            known = self._names.of(process.pid)
            if known is None:
                continue
            name, key = known[0], (process.pid, known[1])
            uid = self._uids.get(key) if key in self._uids else read_pod_uid(self._host, key[0])
            alive[key] = uid
            owner = self._owner(uid, holders.get(process.device, ())) if uid else None
            if owner is None and process.device not in tested:
                self._tell(key, name, process)
            found.append(_use(process, name, owner))
        self._uids = alive
        self._told &= alive.keys()
        return tuple(sorted(found, key=lambda use: (use.device, use.pid)))

    def _tell(self, key: tuple[int, float], name: str, process: DeviceProcess) -> None:
        if key not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(key)
            log.warning("process_without_pod", pid=process.pid, name=name, device=process.device)

    def _owner(self, uid: str, holders: Sequence[tuple[Owner, str]]) -> Owner:
        """The container is the one of that pod that holds the device, or its only one."""
        if uid not in self._pods:
            self._pods = dict(read_pods(self._host))
        pod = self._pods.get(uid)
        if pod is None:
            return Owner(namespace="", pod=uid, container="")
        holding = {
            owner.container
            for owner, _ in holders
            if (owner.namespace, owner.pod) == (pod.namespace, pod.name)
        }
        names = holding if len(holding) == 1 else {*pod.containers}
        container = names.pop() if len(names) == 1 else ""
        return Owner(namespace=pod.namespace, pod=pod.name, container=container)


class ProcessNames:
    """Names and start times of the host's processes, by psutil.

    Raises ImportError where psutil is not installed.
    """

    def __init__(self, host: Host) -> None:
        import psutil  # noqa: PLC0415  # an extra; only where processes are asked for

        self._psutil = psutil
        self._known: dict[int, tuple[str, float]] = {}
        psutil.PROCFS_PATH = host.path("/proc")

    def of(self, pid: int) -> tuple[str, float] | None:
        """Name and start, None for a process that is gone; the name is read once."""
        try:
            process = self._psutil.Process(pid)
            started = process.create_time()
            known = self._known.get(pid)
            if known is None or known[1] != started:
                known = (one_line(process.name(), 60), started)
                self._keep(pid, known)
        except (self._psutil.Error, OSError, ValueError):
            self._known.pop(pid, None)
            return None
        return known

    def _keep(self, pid: int, known: tuple[str, float]) -> None:
        """Processes that nobody asks for any more make room for others."""
        if len(self._known) >= MAX_PROCESSES:
            self._known.clear()
        self._known[pid] = known


def parse_pod_uid(text: str) -> str | None:
    """The UID of the pod in /proc/PID/cgroup, None for a process outside of pods."""
    found = _POD.findall(text)
    return found[-1].replace("_", "-") if found else None


def read_pod_uid(host: Host, pid: int) -> str | None:
    """The UID of the pod that a process runs in."""
    return parse_pod_uid(optional_text(host, f"/proc/{pid}/cgroup") or "")


def read_pods(host: Host) -> Iterator[tuple[str, Pod]]:
    """The node's pods by UID, from folders that the kubelet makes: NAMESPACE_POD_UID/CONTAINER."""
    for entry in optional_names(host, POD_LOGS):
        parts = entry.split("_")
        if len(parts) == 3:
            namespace, name, uid = (one_line(part, 253) for part in parts)
            yield uid, Pod(namespace, name, tuple(optional_names(host, f"{POD_LOGS}/{entry}")))


def _use(process: DeviceProcess, name: str, owner: Owner | None) -> ProcessUse:
    return ProcessUse(
        pid=process.pid,
        device=process.device,
        name=name,
        memory_bytes=process.memory_bytes,
        utilization_ratio=process.utilization_ratio,
        owner=owner,
    )
