"""The driver's word on an NPU: the file `health` is `ok`, or a number and a text."""

from acme_npu.section import NAME
from deviceplugin.api import Device, Fault, FaultClass, Finding, Host, one_line, pci

SOURCE = f"{NAME}.driver"
# The driver's numbers with their codes and classes; others are logged and change nothing.
CODES = {
    "3": ("too_hot", FaultClass.RESET, "check the fans, then reset the NPU: acme-ctl reset"),
    "7": ("ring_down", FaultClass.HARDWARE, "replace the ring cable of this NPU"),
}


def read_health(host: Host, device: Device) -> Finding:
    """The whole set of faults of one NPU; raises DiscoveryError where it cannot be read."""
    line = host.read_line(f"{pci.DEVICES}/{device.pci_address}/health") or "ok"
    number, _, text = line.partition(" ")
    if number == "ok":
        return Finding()
    code, kind, action = CODES.get(number, ("unknown", FaultClass.INFO, "ask Acme"))
    reason = f"the driver says {one_line(text)!r} (health {number})"
    fault = Fault(
        device=device.id, source=SOURCE, code=code, reason=reason, kind=kind, action=action
    )
    return Finding(faults=(fault,))
