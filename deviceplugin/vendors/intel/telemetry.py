"""What sysfs, the hardware monitor and the PMU say of an Intel GPU, by xe or i915.

There is no percentage in sysfs: how long a GT was awake is the difference of its idle time, what
engines did is counted by the PMU, or else told by the fdinfo of processes. A virtual function has
none of these files.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm_clients import Client, Shares, read_clients
from deviceplugin.host.hwmon import Monitor, read_monitor
from deviceplugin.host.numbers import numbered
from deviceplugin.host.optional import optional_int, optional_names
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.perf import Open, open_counter
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess, Sample
from deviceplugin.vendor.measuring import (
    MEGA,
    MICRO,
    MILLI,
    Rates,
    Values,
    fan_speeds,
    measured,
    temperatures,
)
from deviceplugin.vendors.intel.engines import Engines

DRIVERS = ("xe", "i915")
SENSORS = {"pkg": "gpu", "package": "gpu", "vram": "memory"}
_XE_SENSORS = {2: "gpu", 3: "memory"}  # sysfs-driver-intel-xe-hwmon, without labels
_PREFIX = "reason_"
_I915_PREFIX = "throttle_reason_"
# Files of error_counter, which Intel's own i915 has and Linux' has not.
_ERRORS = {"corrected": "correctable_", "uncorrected": "fatal_"}


class Meter:
    """Reads the files; keeps the counters of the last time. `clock` gives monotonic seconds,
    `opener` opens counters of the PMU."""

    def __init__(
        self,
        host: Host,
        clock: Callable[[], float] = time.monotonic,
        opener: Open = open_counter,
    ) -> None:
        self._host, self._clock = host, clock
        self._rates = Rates(clock)
        self._engines = Engines(host, self._rates, opener)
        self._shares = Shares()

    def sample(self, devices: Sequence[Device]) -> Sample:
        """A GPU and its functions; raises DiscoveryError where the GPU is gone."""
        gpu = devices[0]
        path = f"{DEVICES}/{gpu.pci_address}"
        if gpu.pci_address is None:
            return Sample()
        if not self._host.exists(path):
            raise DiscoveryError(f"{path} is gone")
        found = measured(gpu, self._values(path, gpu))
        for device in devices:
            found += measured(device, _known(device))
        return Sample(measured=tuple(found))

    def processes(self, devices: Sequence[Device]) -> tuple[DeviceProcess, ...]:
        """The DRM clients of the devices."""
        by_address = {d.pci_address: d.id for d in devices if d.pci_address is not None}
        clients = [c for c in read_clients(self._host) if c.driver in DRIVERS]
        own = tuple(client for client in clients if client.pci_address in by_address)
        shares = self._shares.look(own, self._clock())
        return tuple(_process(client, by_address[client.pci_address], shares) for client in own)

    def _values(self, path: str, gpu: Device) -> Values:
        monitor = read_monitor(self._host, path, *DRIVERS)
        if monitor is not None:
            yield from temperatures(monitor, _names_of_sensors(monitor))
            yield from self._power(monitor, gpu)
            yield from fan_speeds(monitor)
        yield from self._clocks(path, gpu)
        yield from self._engines.measure(gpu)
        yield from _errors(self._host, path)

    def _power(self, monitor: Monitor, gpu: Device) -> Values:
        energy = monitor.first("energy1_input", "energy2_input")
        if energy is not None:
            joules = energy * MICRO
            yield "energy_joules_total", joules, ()
            watts = self._rates.per_second((gpu.id, "energy"), joules)
            if watts is not None:
                yield "power_watts", watts, ()
        limit = monitor.first("power1_max", "power1_cap")
        if limit is not None:
            yield "power_limit_watts", limit * MICRO, ()

    def _clocks(self, path: str, gpu: Device) -> Values:
        """Of the first GT that tells, the one that computes."""
        for gt in _gts(self._host, path):
            clock = optional_int(self._host, gt.clock)
            if clock is None:
                continue
            yield "clock_hertz", clock * MEGA, (("clock", "graphics"),)
            idle = optional_int(self._host, gt.idle)
            counter = (gpu.id, "idle")
            rest = None if idle is None else self._rates.per_second(counter, idle * MILLI)
            if rest is not None:
                yield "utilization_ratio", min(max(1 - rest, 0.0), 1.0), (("engine", "awake"),)
            for name in optional_names(self._host, gt.reasons):
                reason = name.removeprefix(gt.prefix)
                file = f"{gt.reasons}/{name}"
                stands = optional_int(self._host, file) if reason != name else None
                if stands is not None:
                    yield "throttled", float(bool(stands)), (("reason", reason),)
            return


class _Gt:
    """The files of one GT: clock in MHz, idle time in ms, and reasons to slow down."""

    def __init__(self, clock: str, idle: str, reasons: str, prefix: str) -> None:
        self.clock, self.idle, self.reasons, self.prefix = clock, idle, reasons, prefix


def _gts(host: Host, path: str) -> Iterator[_Gt]:
    for _, tile in numbered(optional_names(host, path), "tile"):
        for _, gt in numbered(optional_names(host, f"{path}/{tile}"), "gt"):
            base = f"{path}/{tile}/{gt}"
            yield _Gt(
                f"{base}/freq0/act_freq",
                f"{base}/gtidle/idle_residency_ms",
                f"{base}/freq0/throttle",
                _PREFIX,
            )
    for _, card in numbered(optional_names(host, f"{path}/drm"), "card"):
        for _, gt in numbered(optional_names(host, f"{path}/drm/{card}/gt"), "gt"):
            base = f"{path}/drm/{card}/gt/{gt}"
            clock, idle = f"{base}/rps_act_freq_mhz", f"{base}/rc6_residency_ms"
            yield _Gt(clock, idle, base, _I915_PREFIX)


def _names_of_sensors(monitor: Monitor) -> Callable[[int, str | None], str | None]:
    plain = _XE_SENSORS if monitor.text("name") == "xe" else {1: "gpu"}
    return lambda number, label: SENSORS.get(label) if label else plain.get(number)


def _errors(host: Host, path: str) -> Values:
    """Sums over all GTs and parts; nothing where the driver does not count."""
    for kind, prefix in _ERRORS.items():
        counts = [
            count
            for folder in _error_folders(host, path)
            for name in optional_names(host, folder)
            if name.startswith(prefix)
            if (count := optional_int(host, f"{folder}/{name}")) is not None
        ]
        if counts:
            yield "ecc_errors_total", float(sum(counts)), (("kind", kind), ("since", "driver"))


def _error_folders(host: Host, path: str) -> Iterator[str]:
    for _, card in numbered(optional_names(host, f"{path}/drm"), "card"):
        for _, gt in numbered(optional_names(host, f"{path}/drm/{card}/gt"), "gt"):
            yield f"{path}/drm/{card}/gt/{gt}/error_counter"


def _known(device: Device) -> Values:
    """What discovery read: it does not change."""
    if device.memory_bytes is not None:
        yield "memory_total_bytes", float(device.memory_bytes), ()
    if device.ecc is not None:
        yield "ecc_enabled", float(device.ecc), ()


def _process(
    client: Client, device: DeviceID, shares: Mapping[tuple[str, str], float]
) -> DeviceProcess:
    """The memory of all its regions on the device; system memory is not the device's."""
    vram = [size for key, size in client.memory.items() if _is_resident(key)]
    return DeviceProcess(
        pid=client.pid,
        device=device,
        memory_bytes=sum(vram) if vram else None,
        utilization_ratio=shares.get((client.pci_address, client.number)),
    )


def _is_resident(key: str) -> bool:
    return key.startswith(("resident-vram", "resident-local"))
