"""Kernel events about a GPU's health: a wedged DRM device, a driver bound again; pure.

Documentation/gpu/drm-uapi.rst, Device Wedging: `WEDGED=<method>[,<method>…]`, the least intrusive
method of recovery first. amdgpu, i915 and xe send it alike. The code of the fault is the method, in
snake_case.
"""

import re
from collections.abc import Iterable, Mapping

from deviceplugin.host.uevents import Uevent
from deviceplugin.model import Device, Fault, FaultClass
from deviceplugin.names import one_line

_ADDRESS = re.compile(r"/([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|$)")
_METHODS: Mapping[str, tuple[FaultClass, str]] = {
    "none": (FaultClass.WARN, "none: the driver has recovered; see its devcoredump if it returns"),
    "rebind": (FaultClass.RESET, "drain the node, unbind the driver and bind it again"),
    "bus-reset": (FaultClass.RESET, "drain the node, unbind, reset the PCI bus, bind again"),
    "vendor-specific": (FaultClass.RESET, "see the driver's messages; firmware may be damaged"),
    "cold-reset": (FaultClass.HARDWARE, "switch the node's power off and on again"),
}
_UNKNOWN = (FaultClass.RESET, "see the driver's messages in the kernel log")


def address_of(event: Uevent) -> str | None:
    """The PCI function that an event is about: the last one in its path."""
    found = _ADDRESS.findall(event.devpath)
    return found[-1] if found else None


def wedged_faults(event: Uevent, devices: Iterable[Device]) -> tuple[Fault, ...]:
    """The faults of a wedged event: one for each whole device at its address."""
    methods = dict(event.fields).get("WEDGED")
    if event.subsystem != "drm" or methods is None:
        return ()
    method = methods.split(",")[0].strip()
    kind, action = _METHODS.get(method, _UNKNOWN)
    code = method.replace("-", "_") if method in _METHODS else "unknown"
    listed = one_line(methods, 100) or "nothing"
    return tuple(
        Fault(
            device=device.id,
            source=f"{device.vendor}.wedged",
            code=code,
            reason=f"the driver gave the device up, recovery by {listed}",
            kind=kind,
            action=action,
        )
        for device in whole_devices(address_of(event), devices)
    )


def bound_again(event: Uevent, devices: Iterable[Device]) -> tuple[Device, ...]:
    """The whole devices whose driver was bound just now, which is a driver reload for them."""
    if event.subsystem != "pci" or event.action != "bind":
        return ()
    return whole_devices(address_of(event), devices)


def whole_devices(address: str | None, devices: Iterable[Device]) -> tuple[Device, ...]:
    """The devices at an address that are not a part of another one there."""
    here = {d.id: d for d in devices if d.pci_address is not None and d.pci_address == address}
    return tuple(device for device in here.values() if device.parent not in here)
