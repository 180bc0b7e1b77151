"""Kernel events about a GPU's health."""

import pytest

from deviceplugin.health.uevents import bound_again, wedged_faults
from deviceplugin.host.uevents import Uevent, parse_uevent
from deviceplugin.model import Device, DeviceID, FaultClass

ADDRESS = "0000:03:00.0"
PATH = f"/devices/pci0000:00/0000:00:01.0/0000:02:00.0/{ADDRESS}"
GPU = Device(id=DeviceID("amd-1"), vendor="amd", pci_address=ADDRESS)
PART = Device(id=DeviceID("amd-1-p1"), vendor="amd", parent=GPU.id, pci_address=ADDRESS)
OTHER = Device(id=DeviceID("x"), vendor="intel", pci_address="0000:02:00.0")
FUNCTION = Device(
    id=DeviceID("vf"), vendor="intel", parent=DeviceID("pf"), pci_address="0000:04:00.1"
)
DEVICES = (GPU, PART, OTHER, FUNCTION)


def wedged(methods: str, path: str = f"{PATH}/drm/card0") -> Uevent:
    message = (
        f"change@{path}\0ACTION=change\0DEVPATH={path}\0SUBSYSTEM=drm\0WEDGED={methods}\0MINOR=0\0"
    )
    event = parse_uevent(message.encode())
    assert event is not None
    return event


@pytest.mark.parametrize(
    ("methods", "code", "kind"),
    [
        ("none", "none", FaultClass.WARN),
        ("rebind", "rebind", FaultClass.RESET),
        ("rebind,bus-reset", "rebind", FaultClass.RESET),
        ("bus-reset", "bus_reset", FaultClass.RESET),
        ("vendor-specific", "vendor_specific", FaultClass.RESET),
        ("cold-reset", "cold_reset", FaultClass.HARDWARE),
        ("unknown", "unknown", FaultClass.RESET),
        ("a-method-of-tomorrow", "unknown", FaultClass.RESET),
        ("", "unknown", FaultClass.RESET),
    ],
)
def test_a_wedged_device_is_a_fault_by_its_recovery_method(
    methods: str, code: str, kind: FaultClass
) -> None:
    (fault,) = wedged_faults(wedged(methods), DEVICES)
    assert (fault.device, fault.source) == (GPU.id, "amd.wedged")
    assert (fault.code, fault.kind) == (code, kind)
    assert fault.reason
    assert fault.action


def test_a_virtual_function_is_wedged_alone() -> None:
    event = wedged("rebind", "/devices/pci0000:00/0000:04:00.1/drm/card1")
    assert [fault.device for fault in wedged_faults(event, DEVICES)] == [FUNCTION.id]


@pytest.mark.parametrize(
    "event",
    [
        Uevent(action="change", subsystem="drm", devpath=f"{PATH}/drm/card0"),
        Uevent(action="change", subsystem="pci", devpath=PATH, fields=(("WEDGED", "rebind"),)),
        wedged("rebind", "/devices/platform/vgem/drm/card9"),
    ],
    ids=["hotplug", "other-subsystem", "no-pci"],
)
def test_other_events_are_no_faults(event: Uevent) -> None:
    assert wedged_faults(event, DEVICES) == ()


def test_a_bound_driver_is_a_driver_reload_of_its_device() -> None:
    assert bound_again(Uevent(action="bind", subsystem="pci", devpath=PATH), DEVICES) == (GPU,)
    assert bound_again(Uevent(action="unbind", subsystem="pci", devpath=PATH), DEVICES) == ()
