"""What holds of probes and of a health monitor, which runs here on a thread for a moment."""

import threading
from collections.abc import Iterator, Sequence

from deviceplugin.errors import DiscoveryError, LibraryError, UnavailableError
from deviceplugin.health.agents import agent_problem
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.testing.contract.devices import fault_problems
from deviceplugin.vendor import AgentSource, Finding, HealthMonitor, HealthProbe

WATCH_S = 0.2  # how long a monitor that reports nothing is watched before it is stopped
END_S = 5.0


def probe_problems(probe: HealthProbe, vendor: str, devices: Sequence[Device]) -> Iterator[str]:
    """What is wrong with what a probe finds of each whole device."""
    for device in devices:
        if device.parent is None:
            family = {d.id for d in devices if device.id in (d.id, d.parent)}
            yield from (f"{device.id}: {p}" for p in _probe_problems(probe, vendor, device, family))


def _probe_problems(
    probe: HealthProbe, vendor: str, device: Device, family: set[DeviceID]
) -> Iterator[str]:
    try:
        found = probe.probe_health(device)
    except (DiscoveryError, LibraryError):
        return  # what the contract has for a device that cannot be asked now
    if not isinstance(found, Finding):
        yield f"probe_health() gives {type(found).__name__}, not a Finding"
        return
    for fault in (*found.faults, *found.events):
        yield from (f"probe_health(): {p}" for p in fault_problems(vendor, fault, family))


def agents_problems(vendor: AgentSource, name: str) -> Iterator[str]:
    """What is wrong with the agents of a vendor: those that the daemon would not listen to."""
    for agent in vendor.agents():
        if problem := agent_problem(name, agent):
            yield f"agents(): {problem}"


def watch_problems(monitor: HealthMonitor, vendor: str, devices: Sequence[Device]) -> list[str]:
    """What is wrong with a monitor that is started, heard until its first report, and stopped."""
    ids = {device.id for device in devices}
    report = _Report(vendor, ids)
    stop = threading.Event()
    thread = threading.Thread(target=report.watch, args=(monitor, devices, stop), daemon=True)
    thread.start()
    report.heard.wait(WATCH_S)
    stop.set()
    thread.join(END_S)
    problems = [f"watch_health(): {problem}" for problem in report.problems]
    if thread.is_alive():
        problems.append(f"watch_health() has not ended {END_S:g} s after stop was set")
    left = sorted(source for source, faults in report.sets.items() if faults)
    return problems + [
        f"watch_health(): the faults of {source} were not emptied when stop was set"
        for source in left
    ]


class _Report:
    """A HealthReport that keeps what is reported and what was wrong with it."""

    def __init__(self, vendor: str, ids: set[DeviceID]) -> None:
        self._vendor, self._ids = vendor, ids
        self.heard = threading.Event()
        self.sets: dict[str, Sequence[Fault]] = {}
        self.problems: dict[str, None] = {}

    def watch(
        self, monitor: HealthMonitor, devices: Sequence[Device], stop: threading.Event
    ) -> None:
        """The monitor on this thread, to its end."""
        try:
            monitor.watch_health(devices, self, stop)
        except UnavailableError:
            pass  # what the contract has for a node without the driver
        except Exception as error:  # noqa: BLE001  # whatever it raises is what is to be said
            self.problems[f"raises {type(error).__name__}: {error}"] = None
        self.heard.set()

    def faults(self, source: str, faults: Sequence[Fault]) -> None:
        self.sets[source] = tuple(faults)
        self._check(self.sets[source])

    def event(self, fault: Fault) -> None:
        self._check([fault])

    def happened(self, fault: Fault) -> None:
        self._check([fault])

    def rediscover(self) -> None:
        self.heard.set()

    def _check(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            for problem in fault_problems(self._vendor, fault, self._ids):
                self.problems[problem] = None
        self.heard.set()
