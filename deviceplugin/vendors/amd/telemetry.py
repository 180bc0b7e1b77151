"""What sysfs, the hardware monitor and gpu_metrics say of an AMD GPU and its partitions."""

import re
import time
from collections.abc import Mapping, Sequence

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm_clients import Client, Shares, read_clients
from deviceplugin.host.hwmon import Monitor, read_monitor
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.optional import optional_int, optional_text
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess, Sample
from deviceplugin.vendor.measuring import (
    MICRO,
    PERCENT,
    Rates,
    Values,
    fan_speeds,
    measured,
    temperatures,
)
from deviceplugin.vendors.amd.gpu_metrics import GpuMetrics, parse_gpu_metrics
from deviceplugin.vendors.amd.gpus import AMDGPU
from deviceplugin.vendors.amd.health import BAD_PAGES, parse_bad_pages, read_counters
from deviceplugin.vendors.amd.kfd import read_generation, read_topology

# temp*_label of amdgpu's monitor.
SENSORS = {"edge": "gpu", "junction": "hotspot", "mem": "memory"}
_PAGES = {"R": "retired", "P": "pending", "F": "failed"}
_RENDER = re.compile(r"/dev/dri/renderD([0-9]+)")
_USED = ("memory-vram", "resident-vram")


class Meter:
    """Reads the files; keeps which KFD node a render node has, which changes with a generation."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._generation: str | None = None
        self._nodes: Mapping[int, int] = {}
        self._shares = Shares()
        self._rates = Rates()

    def sample(self, devices: Sequence[Device]) -> Sample:
        """A GPU and its partitions; raises DiscoveryError where the GPU cannot be read at all."""
        gpu, *parts = devices
        if gpu.pci_address is None or gpu.driver not in (None, AMDGPU):
            return Sample()
        path = f"{DEVICES}/{gpu.pci_address}"
        if not self._host.exists(path):
            raise DiscoveryError(f"{path} is gone")
        metrics = self._metrics(path)
        found = measured(gpu, self._values(path, gpu, metrics))
        for part in parts:
            found += measured(part, self._part_values(part, gpu, metrics))
        return Sample(measured=tuple(found))

    def processes(self, devices: Sequence[Device]) -> tuple[DeviceProcess, ...]:
        """The DRM clients of the devices; a partition is known by its render node."""
        clients = tuple(c for c in read_clients(self._host) if c.driver == AMDGPU)
        shares = self._shares.look(clients, time.monotonic())
        found = [_process(client, devices, shares) for client in clients]
        return tuple(process for process in found if process is not None)

    def _metrics(self, path: str) -> GpuMetrics:
        try:
            content = self._host.read_bytes(f"{path}/gpu_metrics")
        except DiscoveryError:
            return GpuMetrics()
        return parse_gpu_metrics(content or b"") or GpuMetrics()

    def _values(self, path: str, gpu: Device, metrics: GpuMetrics) -> Values:
        yield from self._utilization(path, metrics)
        yield from _memory(
            self._number(path, "mem_info_vram_total"), self._number(path, "mem_info_vram_used")
        )
        monitor = read_monitor(self._host, path, AMDGPU)
        if monitor is not None:
            yield from _monitored(monitor)
        yield from _of_metrics(metrics, monitored=monitor is not None)
        yield from self._residencies(gpu, metrics)
        replays = self._number(path, "pcie_replay_count")
        replays = metrics.pcie_replays if replays is None else replays
        if replays is not None:
            yield "pcie_replays_total", float(replays), ()
        yield from self._errors(path)
        if gpu.ecc is not None:
            yield "ecc_enabled", float(gpu.ecc), ()

    def _residencies(self, gpu: Device, metrics: GpuMetrics) -> Values:
        """The parts of the firmware's rounds since the last time; it counts in 32 bits, so at
        times there is a round without."""
        for reason, count in metrics.residencies.items():
            part = self._rates.over((gpu.id, reason), count, metrics.rounds or 0)
            if part is not None:
                yield "throttled_ratio", min(part, 1.0), (("reason", reason),)

    def _utilization(self, path: str, metrics: GpuMetrics) -> Values:
        files = {"compute": "gpu_busy_percent", "memory": "mem_busy_percent"}
        other = {"compute": metrics.compute, "memory": metrics.memory}
        for engine, file in files.items():
            percent = self._number(path, file)
            value = other[engine] if percent is None else percent * PERCENT
            if value is not None:
                yield "utilization_ratio", value, (("engine", engine),)
        if metrics.media is not None:
            yield "utilization_ratio", metrics.media, (("engine", "decoder"),)

    def _errors(self, path: str) -> Values:
        counts = dict(read_counters(self._host, f"{path}/ras"))
        if counts:
            for place, kind in enumerate(("uncorrected", "corrected")):
                total = sum(pair[place] for pair in counts.values())
                yield "ecc_errors_total", float(total), (("kind", kind), ("since", "driver"))
        xgmi = counts.get("xgmi_wafl")
        if xgmi is not None:
            for place, kind in enumerate(("uncorrected", "corrected")):
                yield "link_errors_total", float(xgmi[place]), (("link", "xgmi"), ("kind", kind))
        pages = optional_text(self._host, f"{path}/ras/{BAD_PAGES}")
        if pages is not None:
            flags = parse_bad_pages(pages)
            for flag, state in _PAGES.items():
                yield "retired_pages", float(flags.get(flag, 0)), (("state", state),)

    def _part_values(self, part: Device, gpu: Device, metrics: GpuMetrics) -> Values:
        """A virtual function has files of its own, a partition its KFD node."""
        if part.pci_address != gpu.pci_address:
            path = f"{DEVICES}/{part.pci_address}"
            yield from self._utilization(path, GpuMetrics())
            yield from _memory(part.memory_bytes, self._number(path, "mem_info_vram_used"))
            return
        yield from _memory(part.memory_bytes, self._used_by_kfd(part))
        number = part.index
        if number is not None and 0 <= number < len(metrics.partitions):
            busy = metrics.partitions[number]
            if busy is not None:
                yield "utilization_ratio", busy, (("engine", "compute"),)

    def _used_by_kfd(self, part: Device) -> int | None:
        minors = [int(m[1]) for node in part.nodes if (m := _RENDER.fullmatch(node))]
        generation = read_generation(self._host)
        if generation is None or generation != self._generation:
            nodes = read_topology(self._host).nodes
            self._nodes = {node.render_minor: node.number for node in nodes}
            self._generation = generation
        numbers = [self._nodes[minor] for minor in minors if minor in self._nodes]
        if len(numbers) != 1:
            return None
        return self._number(f"{TOPOLOGY}/nodes/{numbers[0]}/mem_banks/0", "used_memory")

    def _number(self, path: str, file: str) -> int | None:
        return optional_int(self._host, f"{path}/{file}")


def _memory(total: int | None, used: int | None) -> Values:
    if total is not None:
        yield "memory_total_bytes", float(total), ()
    if used is not None:
        yield "memory_used_bytes", float(used), ()
    if total is not None and used is not None:
        yield "memory_free_bytes", float(max(total - used, 0)), ()


def _monitored(monitor: Monitor) -> Values:
    yield from temperatures(monitor, lambda _, label: SENSORS.get(label or ""))
    yield from _power(monitor)
    for clock, file in (("sm", "freq1_input"), ("memory", "freq2_input")):
        hertz = monitor.number(file)
        if hertz is not None:
            yield "clock_hertz", float(hertz), (("clock", clock),)
    yield from fan_speeds(monitor)
    speed, highest = monitor.number("pwm1"), monitor.number("pwm1_max")
    if speed is not None and highest:
        yield "fan_ratio", speed / highest, (("fan", "1"),)


def _power(monitor: Monitor) -> Values:
    power = monitor.first("power1_input", "power1_average")  # MI300; MI200 and Radeon
    if power is not None:
        yield "power_watts", power * MICRO, ()
    limit = monitor.number("power1_cap")
    if limit is not None:
        yield "power_limit_watts", limit * MICRO, ()


def _of_metrics(metrics: GpuMetrics, *, monitored: bool) -> Values:
    """What the monitor has already is not taken from here too."""
    if metrics.energy_j is not None:
        yield "energy_joules_total", metrics.energy_j, ()
    for reason, stands in metrics.throttled.items():
        yield "throttled", float(stands), (("reason", reason),)
    if monitored:
        return
    if metrics.power_w is not None:
        yield "power_watts", metrics.power_w, ()
    for sensor, value in (("hotspot", metrics.hotspot_c), ("memory", metrics.memory_c)):
        if value is not None:
            yield "temperature_celsius", value, (("sensor", sensor),)


def _process(
    client: Client, devices: Sequence[Device], shares: Mapping[tuple[str, str], float]
) -> DeviceProcess | None:
    device = _device_of(client, devices)
    if device is None:
        return None
    memory = next((client.memory[key] for key in _USED if key in client.memory), None)
    share = shares.get((client.pci_address, client.number))
    return DeviceProcess(
        pid=client.pid, device=device, memory_bytes=memory, utilization_ratio=share
    )


def _device_of(client: Client, devices: Sequence[Device]) -> DeviceID | None:
    at = [device for device in devices if device.pci_address == client.pci_address]
    parts = [d for d in devices if d.parent is not None and client.node in d.nodes]
    whole = [device for device in at if device.parent is None] or at
    return next((device.id for device in (*parts, *whole)), None)
