"""Checks of the way to a GPU: its PCIe link, the links to its peers, its nodes; pure."""

import math

from deviceplugin.diagnose.model import (
    GpuCheck,
    GpuFacts,
    Judged,
    LinkSpeed,
    Snapshot,
    failed,
    passed,
    skipped,
    warned,
)

# PCIe replays a minute and lane that DCGM tolerates, by the speed of the link in GT/s.
_REPLAYS = {2.5: 0.15, 5.0: 0.30, 8.0: 0.48, 16.0: 0.96, 32.0: 1.92, 64.0: 3.84}
_BUSY = 0.5  # of the compute engines: below it a link may rest at a lower speed by design
_ANYBODY = 0o044  # may be read by a group or by all
_NO_LINK = "nothing tells a PCIe link of this device"


def _nodes(gpu: GpuFacts, _: Snapshot) -> Judged:
    fault = next((f for f in gpu.faults if f.code == "node_missing"), None)
    if fault:
        return failed(fault.reason, fault.action)
    missing = [node.path for node in gpu.nodes if node.mode is None]
    if missing:
        return failed(f"missing: {', '.join(missing)}")
    if not gpu.nodes:
        return skipped("it has no device nodes of its own")
    # VFIO's nodes are root's by design.
    ordinary = [node for node in gpu.nodes if not node.path.startswith("/dev/vfio/")]
    closed = [f"{n.path} (mode {n.mode:o})" for n in ordinary if not (n.mode or 0) & _ANYBODY]
    if closed:
        return warned(f"for root alone: {', '.join(closed)}")
    return passed(f"{len(gpu.nodes)} there")


def _width(gpu: GpuFacts, _: Snapshot) -> Judged:
    if gpu.readings.answers is False:
        return failed("the function does not answer on the bus", "reboot; check the seating")
    lanes = gpu.readings.lanes
    if lanes is None:
        return skipped(_NO_LINK)
    text = f"{lanes.width} of {lanes.possible} lanes at {lanes.address}"
    return passed(text) if lanes.width >= lanes.possible else warned(text)


def _speed(gpu: GpuFacts, _: Snapshot) -> Judged:
    speed = gpu.speed
    if speed is None:
        return skipped(_NO_LINK)
    text = f"{speed.current:g} of {speed.possible:g} GT/s"
    if speed.current >= speed.possible:
        return passed(text)
    load = gpu.values("utilization_ratio").get(("compute",))
    if load is None or load < _BUSY:
        return skipped(f"{text}, and the GPU is not busy: links rest at a lower speed")
    return warned(f"{text} at {load:.0%} load")


def _errors(gpu: GpuFacts, _: Snapshot) -> Judged:
    fatal, nonfatal = gpu.readings.fatal_errors, gpu.readings.nonfatal_errors
    if fatal is None and nonfatal is None:
        return skipped("the kernel counts no PCIe errors of it (AER)")
    corrected = "unknown" if gpu.correctable_errors is None else gpu.correctable_errors
    text = f"{fatal or 0} fatal, {nonfatal or 0} non-fatal, {corrected} corrected since the boot"
    if fatal:
        return failed(text)
    return warned(text) if nonfatal else passed(text)


def _replays(gpu: GpuFacts, snapshot: Snapshot) -> Judged:
    """A whole minute's tolerance for the moment between the measurements: it warns late, and
    never of what is usual."""
    now, before = (gpu.values("pcie_replays_total", earlier=e).get(()) for e in (False, True))
    if now is None or before is None:
        return skipped("no replay counter")
    limit = _tolerated(gpu.speed, gpu.readings.lanes.width if gpu.readings.lanes else 16)
    rise = max(now - before, 0)
    text = f"{rise:g} in {snapshot.window_s:g} s, {now:g} in all"
    return passed(text) if rise <= limit else warned(f"{text}, over {limit} a minute")


def _tolerated(speed: LinkSpeed | None, lanes: int) -> int:
    known = [rate for gts, rate in _REPLAYS.items() if speed is None or gts <= speed.current]
    return math.ceil(max(known, default=_REPLAYS[2.5]) * lanes)


def _fabric(gpu: GpuFacts, _: Snapshot) -> Judged:
    for fault in gpu.faults:
        if fault.source.endswith((".fabric", ".nvlink", ".xgmi", ".xelink")):
            return failed(fault.reason, fault.action)
    now = gpu.values("link_errors_total")
    before = gpu.values("link_errors_total", earlier=True)
    rose = sorted(key for key, value in now.items() if value > before.get(key, value))
    if rose:
        return failed(", ".join(f"{link} {kind} rises" for link, kind in rose))
    if now:
        return passed("no link error was counted between the measurements")
    return passed(f"{len(gpu.device.links)} links") if gpu.device.links else skipped("no links")


def _aperture(gpu: GpuFacts, snapshot: Snapshot) -> Judged:
    """No size is right for all products; that of a sister GPU is."""
    size = gpu.aperture_bytes
    sisters = [
        other.aperture_bytes
        for other in snapshot.gpus
        if other.device.product == gpu.device.product and other.device.vendor == gpu.device.vendor
    ]
    if size is None:
        return skipped("the size of its memory window is not readable")
    most = max(one for one in sisters if one is not None)
    text = f"{size >> 20} MiB"
    return passed(text) if size == most else warned(f"{text}, others of its product {most >> 20}")


LINK_CHECKS = (
    GpuCheck(
        name="device_nodes",
        expected="every node exists, and not for root alone",
        source="/dev",
        action="check udev on the node, and that the daemon's container mounts the host's /dev",
        judge=_nodes,
    ),
    GpuCheck(
        name="pcie_width",
        expected="all lanes that both ends have",
        source="current_link_width, max_link_width of the function and the bridges above it",
        action="check the GPU's seating and the riser",
        judge=_width,
    ),
    GpuCheck(
        name="pcie_speed",
        expected="the highest speed of both ends, under load",
        source="current_link_speed, max_link_speed of the function",
        action="check the seating, and the slot's speed in the firmware",
        judge=_speed,
    ),
    GpuCheck(
        name="pcie_errors",
        expected="no fatal and no non-fatal error",
        source="aer_dev_fatal, aer_dev_nonfatal, aer_dev_correctable of the function",
        action="see the kernel log for AER messages; check the seating if they come back",
        judge=_errors,
    ),
    GpuCheck(
        name="pcie_replays",
        expected="a rise below what DCGM tolerates a minute, by speed and lanes",
        source="pcie_replays_total",
        action="check the seating and the riser",
        judge=_replays,
    ),
    GpuCheck(
        name="pcie_window",
        expected="as large as that of other GPUs of its product",
        source="resource of the function: the largest region (BAR1)",
        action="turn on Above 4G Decoding and Resizable BAR in the firmware",
        judge=_aperture,
    ),
    GpuCheck(
        name="fabric",
        expected="the GPU is in its fabric, and no link error is counted",
        source="faults of the vendor's fabric, link_errors_total",
        action="see the kernel log for messages of the links; reset the GPU if they go on",
        judge=_fabric,
    ),
)
