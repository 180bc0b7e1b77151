"""Recorded nodes, and what labels are made from there."""

from collections.abc import Sequence
from pathlib import Path

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.labels.own import NodeView
from deviceplugin.model import Device, DeviceID, Inventory, VendorStatus
from deviceplugin.resources.plan import plan_resources
from deviceplugin.resources.section import Rule
from deviceplugin.testing.hardware.replay import replayed
from deviceplugin.vendor import Labeller, LabelView, Vendor

CAPTURES = Path(__file__).parents[1] / "captures"


def recorded(name: str, vendor: str, root: Path) -> dict[str, str]:
    """The labels of a vendor on a recorded node."""
    return vendor_labels(replayed(CAPTURES / name, vendor, root))


def vendor_labels(vendor: Vendor, rules: Sequence[Rule] = ()) -> dict[str, str]:
    found = vendor.discover()
    inventory = Inventory(devices={d.id: d for d in found.devices})
    plan = plan_resources(inventory, rules)
    assert isinstance(vendor, Labeller)
    view = LabelView(
        devices=found.devices,
        resources=tuple(plan.resources.values()),
        driver_version=found.driver_version,
        library_version=found.library_version,
        started=1795332967,
    )
    return dict(vendor.node_labels(view))


def view_of(*devices: Device) -> NodeView:
    """A node with these devices, all of driver 1.2."""
    store = InventoryStore(lambda: 0.0)
    for vendor in sorted({d.vendor for d in devices}):
        store.set_devices(vendor, [d for d in devices if d.vendor == vendor])
        store.set_status(VendorStatus(name=vendor, driver_version="1.2"))
    plan = plan_resources(store.current)
    return NodeView(inventory=store.current, resources=plan.resources)


def gpu(number: int, product: str | None = "NVIDIA H100", gib: int = 80, **more: object) -> Device:
    known: dict[str, object] = {"memory_bytes": gib << 30} | more
    return Device(
        id=DeviceID(f"GPU-{number}"),
        vendor="nvidia",
        product=product,
        **known,  # type: ignore[arg-type]  # fields of Device
    )
