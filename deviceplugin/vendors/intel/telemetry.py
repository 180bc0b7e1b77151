"""What sysfs and the hardware monitor say of an Intel GPU, by xe or i915.

There is no percentage in sysfs: how long a GT was awake is the difference of its idle time, and
what engines did is only in the fdinfo of processes. A virtual function has none of these files.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm_clients import Client, Shares, read_clients
from deviceplugin.host.hwmon import Monitor, read_monitor
from deviceplugin.host.numbers import numbered
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess, Measured, Sample

Labels = tuple[tuple[str, str], ...]
Values = Iterator[tuple[str, float, Labels]]

MICRO, MILLI, MEGA = 1e-6, 1e-3, 1e6
DRIVERS = ("xe", "i915")
SENSORS = {"pkg": "gpu", "package": "gpu", "vram": "memory"}
_XE_SENSORS = {2: "gpu", 3: "memory"}  # sysfs-driver-intel-xe-hwmon, without labels
_PREFIX = "reason_"
_I915_PREFIX = "throttle_reason_"


class Meter:
    """Reads the files; keeps the counters of the last time. `clock` gives monotonic seconds."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._host, self._clock = host, clock
        self._last: dict[tuple[DeviceID, str], tuple[float, float]] = {}
        self._shares = Shares()

    def sample(self, devices: Sequence[Device]) -> Sample:
        """A GPU and its functions; raises DiscoveryError where the GPU is gone."""
        gpu = devices[0]
        path = f"{DEVICES}/{gpu.pci_address}"
        if gpu.pci_address is None:
            return Sample()
        if not self._host.exists(path):
            raise DiscoveryError(f"{path} is gone")
        found = [_measured(gpu, value) for value in self._values(path, gpu)]
        for device in devices:
            found += [_measured(device, value) for value in _known(device)]
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
            yield from _temperatures(monitor)
            yield from self._power(monitor, gpu)
            for number, _ in monitor.sensors("fan"):
                speed = monitor.number(f"fan{number}_input")
                if speed is not None:
                    yield "fan_rpm", float(speed), (("fan", str(number)),)
        yield from self._clocks(path, gpu)

    def _power(self, monitor: Monitor, gpu: Device) -> Values:
        energy = monitor.first("energy1_input", "energy2_input")
        if energy is not None:
            joules = energy * MICRO
            yield "energy_joules_total", joules, ()
            watts = self._rate(gpu.id, "energy", joules)
            if watts is not None:
                yield "power_watts", watts, ()
        limit = monitor.first("power1_max", "power1_cap")
        if limit is not None:
            yield "power_limit_watts", limit * MICRO, ()

    def _clocks(self, path: str, gpu: Device) -> Values:
        """Of the first GT that tells, the one that computes."""
        for gt in _gts(self._host, path):
            clock = self._number(gt.clock)
            if clock is None:
                continue
            yield "clock_hertz", clock * MEGA, (("clock", "graphics"),)
            idle = self._number(gt.idle)
            rest = None if idle is None else self._rate(gpu.id, "idle", idle * MILLI)
            if rest is not None:
                yield "utilization_ratio", min(max(1 - rest, 0.0), 1.0), (("engine", "awake"),)
            for name in _names(self._host, gt.reasons):
                reason = name.removeprefix(gt.prefix)
                stands = self._number(f"{gt.reasons}/{name}") if reason != name else None
                if stands is not None:
                    yield "throttled", float(bool(stands)), (("reason", reason),)
            return

    def _rate(self, device: DeviceID, counter: str, value: float) -> float | None:
        """The counter's growth per second since the last time; None the first time, and after
        it was set back."""
        now = self._clock()
        before = self._last.get((device, counter))
        self._last[device, counter] = (value, now)
        if before is None or now <= before[1] or value < before[0]:
            return None
        return (value - before[0]) / (now - before[1])

    def _number(self, path: str) -> int | None:
        try:
            return self._host.read_int(path)
        except DiscoveryError:
            return None


class _Gt:
    """The files of one GT: clock in MHz, idle time in ms, and reasons to slow down."""

    def __init__(self, clock: str, idle: str, reasons: str, prefix: str) -> None:
        self.clock, self.idle, self.reasons, self.prefix = clock, idle, reasons, prefix


def _gts(host: Host, path: str) -> Iterator[_Gt]:
    for _, tile in numbered(_names(host, path), "tile"):
        for _, gt in numbered(_names(host, f"{path}/{tile}"), "gt"):
            base = f"{path}/{tile}/{gt}"
            yield _Gt(
                f"{base}/freq0/act_freq",
                f"{base}/gtidle/idle_residency_ms",
                f"{base}/freq0/throttle",
                _PREFIX,
            )
    for _, card in numbered(_names(host, f"{path}/drm"), "card"):
        for _, gt in numbered(_names(host, f"{path}/drm/{card}/gt"), "gt"):
            base = f"{path}/drm/{card}/gt/{gt}"
            clock, idle = f"{base}/rps_act_freq_mhz", f"{base}/rc6_residency_ms"
            yield _Gt(clock, idle, base, _I915_PREFIX)


def _names(host: Host, path: str) -> tuple[str, ...]:
    try:
        return host.read_names(path)
    except DiscoveryError:
        return ()


def _temperatures(monitor: Monitor) -> Values:
    plain = _XE_SENSORS if monitor.text("name") == "xe" else {1: "gpu"}
    for number, label in monitor.sensors("temp"):
        sensor = SENSORS.get(label or "") if label else plain.get(number)
        if sensor is None:
            continue
        value = monitor.number(f"temp{number}_input")
        if value is not None:
            yield "temperature_celsius", value * MILLI, (("sensor", sensor),)
        for limit, file in (("slowdown", "crit"), ("shutdown", "emergency")):
            value = monitor.number(f"temp{number}_{file}")
            if value:
                labels = (("sensor", sensor), ("limit", limit))
                yield "temperature_limit_celsius", value * MILLI, labels


def _known(device: Device) -> Values:
    """What discovery read: it does not change."""
    if device.memory_bytes is not None:
        yield "memory_total_bytes", float(device.memory_bytes), ()
    if device.ecc is not None:
        yield "ecc_enabled", float(device.ecc), ()


def _measured(device: Device, value: tuple[str, float, Labels]) -> Measured:
    metric, number, labels = value
    return Measured(metric=metric, device=device.id, value=number, labels=labels)


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
