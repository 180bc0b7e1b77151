"""A node for the page: two NVIDIA GPUs of which one is cut, and a lost one of AMD; every value is
its own, so that a swapped one is seen."""

from types import MappingProxyType
from typing import Any

from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Link,
    LinkKind,
    Resource,
    ResourceName,
    VendorStatus,
)
from deviceplugin.page.model import AlertStatus, Trend
from deviceplugin.page.status import Known
from deviceplugin.telemetry.model import DeviceView, Reading, TelemetryView

AT = 1_800_000_000.0
WHOLE, CUT, PART, OTHER, LOST = (
    DeviceID(name) for name in ("GPU-0", "GPU-1", "MIG-1", "MIG-2", "amd-7")
)
GPU, MIG = ResourceName("nvidia.com/gpu"), ResourceName("nvidia.com/mig-1g.5gb")
GIB = 1 << 30


def _device(name: DeviceID, **fields: object) -> Device:
    return Device(id=name, **{"vendor": "nvidia", "product": "NVIDIA A100", **fields})  # type: ignore[arg-type]  # a helper of many fields


DEVICES = (
    _device(
        WHOLE,
        index=0,
        pci_address="0000:07:00.0",
        numa_node=0,
        memory_bytes=40 * GIB,
        links=(Link(peer=CUT, kind=LinkKind.NVLINK, width=12),),
    ),
    _device(CUT, index=1, pci_address="0000:0f:00.0", numa_node=1, memory_bytes=40 * GIB),
    _device(PART, parent=CUT, profile="1g.5gb", ordinal="1:0", memory_bytes=5 * GIB),
    _device(OTHER, parent=CUT, profile="3g.20gb", ordinal="1:1", memory_bytes=20 * GIB),
    _device(LOST, vendor="amd", product="AMD MI300X", index=0, memory_bytes=192 * GIB),
)
GONE = Fault(
    device=LOST,
    source="amd.driver",
    code="gone",
    reason="it fell off the bus <b>",
    action="reset it & look at the log",
    kind=FaultClass.HARDWARE,
    since=AT - 120,
)
READINGS: dict[DeviceID, dict[tuple[Any, ...], float]] = {
    WHOLE: {
        ("utilization_ratio", ("engine", "memory")): 0.11,
        ("utilization_ratio", ("engine", "compute")): 0.37,
        ("memory_used_bytes",): 13.0 * GIB,
        ("memory_free_bytes",): 27.0 * GIB,
        ("temperature_celsius", ("sensor", "memory")): 81.0,
        ("temperature_celsius", ("sensor", "gpu")): 63.0,
        ("power_watts",): 251.0,
        ("power_limit_watts",): 400.0,
    },
    PART: {("memory_used_bytes",): 2.0 * GIB},
}


def view() -> TelemetryView:
    """What was measured three seconds ago."""
    devices = {device.id: device for device in DEVICES}
    views = {
        name: DeviceView(
            device=devices[name],
            up=True,
            seen_at=AT - 3,
            readings=tuple(
                Reading(metric=key[0], device=name, value=value, at=AT - 3, labels=key[1:])
                for key, value in readings.items()
            ),
        )
        for name, readings in READINGS.items()
    }
    views[LOST] = DeviceView(device=devices[LOST], up=False, seen_at=AT - 120)
    return TelemetryView(interval_s=10.0, devices=MappingProxyType(views))


def _resource(name: ResourceName, *devices: DeviceID) -> Resource:
    entries = (
        AdvertisedDevice(id=AdvertisedID(device), device=device, health=Health.HEALTHY)
        for device in devices
    )
    return Resource(name=name, vendor="nvidia", devices=tuple(entries))


def known() -> Known:
    """Everything."""
    return Known(
        node="node-1",
        at=AT,
        inventory=Inventory(
            devices=MappingProxyType({device.id: device for device in DEVICES}),
            faults=MappingProxyType({LOST: (GONE,)}),
            vendors=MappingProxyType(
                {"nvidia": VendorStatus(name="nvidia", driver_version="580.1")}
            ),
        ),
        held=((("team", "trainer", "main"), MIG, PART),),
        listed={GPU: _resource(GPU, WHOLE), MIG: _resource(MIG, PART)},
        view=view(),
        trends={WHOLE: (Trend(metric="utilisation", step_s=60.0, values=(0.1, None, 0.3, 0.5)),)},
        alerts=(
            AlertStatus(
                name="hot",
                severity="critical",
                state="firing",
                device=WHOLE,
                condition="temperature > 60°C",
                value="63°C",
                since=AT - 60,
            ),
        ),
        notices=("a rule fits nothing",),
    )
