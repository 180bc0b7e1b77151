"""Devices, inventories and rules for the pure tests."""

from types import MappingProxyType
from typing import Any

from deviceplugin.config.load import CORE_SECTIONS
from deviceplugin.config.schema import decode
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.model import Device, DeviceID, Inventory, ResourceName, frozen
from deviceplugin.resources.methods import sharing_schema
from deviceplugin.resources.plan import Sharing, sharing_of
from deviceplugin.resources.section import check_rules

GIB = 1 << 30
SHARING = sharing_schema(load_vendors(None))


def gpu(index: int, gib: float = 80, **changed: Any) -> Device:
    values = {
        "id": DeviceID(f"GPU-{index:08x}-0000-0000-0000-000000000000"),
        "vendor": "nvidia",
        "product": "NVIDIA A100-SXM4-80GB",
        "resource": ResourceName("nvidia.com/gpu"),
        "index": index,
        "pci_address": f"0000:{index + 1:02x}:00.0",
        "numa_node": 0,
        "memory_bytes": int(gib * GIB),
    }
    return Device(**{**values, **changed})


def instance(parent: Device, index: int, profile: str = "1g.10gb", **changed: Any) -> Device:
    values = {
        "id": DeviceID(f"MIG-{parent.index:08x}-0000-0000-0000-{index:012x}"),
        "vendor": "nvidia",
        "product": parent.product,
        "resource": ResourceName(f"nvidia.com/mig-{profile}"),
        "index": index,
        "parent": parent.id,
        "profile": profile,
        "pci_address": parent.pci_address,
        "numa_node": 0,
        "memory_bytes": 10 * GIB,
        "attributes": frozen({"gpu_index": str(parent.index)}),
    }
    return Device(**{**values, **changed})


def inventory(*devices: Device) -> Inventory:
    return Inventory(devices=MappingProxyType({d.id: d for d in sorted(devices, key=_id)}))


def sharing(*rules: dict[str, Any], **sections: Any) -> Sharing:
    raw = {"rules": list(rules), "sharing": {}, "isolation": None, **sections}
    schemas = {**CORE_SECTIONS, "sharing": SHARING}
    made = sharing_of({k: decode(raw[k], schemas[k], k) for k in schemas if k in raw})
    check_rules(made.rules, made.section)
    return made


def _id(device: Device) -> str:
    return device.id
