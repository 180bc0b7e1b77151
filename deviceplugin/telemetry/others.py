"""The labels that other exporters give to a device, for their names; pure."""

from collections.abc import Mapping

from deviceplugin.model import Device
from deviceplugin.telemetry.identity import identity, partition_of
from deviceplugin.telemetry.metric import Family
from deviceplugin.telemetry.model import Labels


def other_labels(device: Device, whole: Device, known: tuple[str, str]) -> Mapping[Family, Labels]:
    """By family, for those that have devices of this vendor; `known` are the node's name and the
    driver's version."""
    own: dict[str, Mapping[Family, Labels]] = {
        "nvidia": {"dcgm": _dcgm(device, whole, known)},
        "amd": {"amd": _amd(device, whole, known)},
        "intel": {"xpumd": _xpumd(device, whole)},
    }
    return {"accelerator": identity(device, whole), **own.get(device.vendor, {})}


def _dcgm(device: Device, whole: Device, known: tuple[str, str]) -> Labels:
    """The name of the node by both words: dcgm-exporter 4.5.3 has the second one."""
    index, (node, driver) = _index(whole), known
    instance: Labels = ()
    if device.parent is not None:
        number = device.attributes.get("gpu_instance", "")
        instance = (("GPU_I_PROFILE", device.profile or ""), ("GPU_I_ID", number))
    return (
        ("gpu", index),
        ("UUID", whole.id),
        ("pci_bus_id", f"0000{whole.pci_address or ''}".upper()),
        ("device", f"nvidia{index}"),
        ("modelName", device.product or ""),
        ("Hostname", node),
        ("hostname", node),
        ("DCGM_FI_DRIVER_VERSION", driver),
        *instance,
    )


def _amd(device: Device, whole: Device, known: tuple[str, str]) -> Labels:
    return (
        ("gpu_id", _index(whole)),
        ("gpu_uuid", device.id),
        ("gpu_partition_id", partition_of(device).partition(":")[2] or "0"),
        ("card_model", device.product or ""),
        ("card_vendor", "AMD"),
        ("hostname", known[0]),
        ("driver_version", known[1]),
    )


def _xpumd(device: Device, whole: Device) -> Labels:
    return (
        ("hw_id", device.id),
        ("hw_name", f"gpu{_index(whole)}"),
        ("hw_model", device.product or ""),
        ("pci_bdf", device.pci_address or ""),
    )


def _index(device: Device) -> str:
    return "" if device.index is None else str(device.index)
