"""What the readings of a PCI function mean for its health, whatever its vendor; pure."""

from collections.abc import Iterator

from deviceplugin.host.readings import Readings, Temperature
from deviceplugin.model import Device, Fault, FaultClass

_RESET = "drain the node and reset the GPU; see the kernel log for AER messages"


def standing_faults(device: Device, now: Readings) -> Iterator[Fault]:
    """What is wrong with the function as it reads now."""
    if now.answers is False:
        text = ("off_the_bus", "the function does not answer on the PCI bus", FaultClass.REBOOT)
        yield _fault(device, "pcie", text, "reboot the node; if it returns, check the seating")
    lanes = now.lanes
    if lanes and lanes.width < lanes.possible:
        reason = f"the PCIe link has {lanes.width} of {lanes.possible} lanes at {lanes.address}"
        text = ("link_width", reason, FaultClass.WARN)
        yield _fault(device, "pcie", text, "check the GPU's seating and the riser")
    yield from (f for t in now.temperatures for f in _temperature_faults(device, t))


def error_events(device: Device, before: Readings, now: Readings) -> Iterator[Fault]:
    """PCIe errors that were counted between two readings."""
    if _rose(before.fatal_errors, now.fatal_errors):
        text = ("aer_fatal", "a fatal PCIe error was counted", FaultClass.RESET)
        yield _fault(device, "pcie", text, _RESET)
    if _rose(before.nonfatal_errors, now.nonfatal_errors):
        text = ("aer_nonfatal", "a non-fatal PCIe error was counted", FaultClass.WARN)
        yield _fault(device, "pcie", text, "check the GPU's seating if it comes back")


def _rose(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before


def _temperature_faults(device: Device, sensor: Temperature) -> Iterator[Fault]:
    degrees = f"sensor {sensor.name} is over its"
    if sensor.emergency is not None and sensor.value >= sensor.emergency:
        text = (f"{sensor.name}_emergency", f"{degrees} emergency limit", FaultClass.HARDWARE)
        yield _fault(device, "thermal", text, "check the node's cooling")
    elif sensor.critical is not None and sensor.value >= sensor.critical:
        text = (f"{sensor.name}_critical", f"{degrees} critical limit", FaultClass.WARN)
        yield _fault(device, "thermal", text, "check the node's cooling")


def _fault(device: Device, source: str, text: tuple[str, str, FaultClass], action: str) -> Fault:
    code, reason, kind = text
    return Fault(
        device=device.id,
        source=f"{device.vendor}.{source}",
        code=code,
        reason=reason,
        kind=kind,
        action=action,
    )
