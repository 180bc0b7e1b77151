"""Names of drivers and devices, as the vendors' own DRA drivers have them; pure."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping

from deviceplugin.dra.section import DraSection
from deviceplugin.model import Device, DeviceID
from deviceplugin.names import short_digest

# Claims and DeviceClasses that were written for the vendors' drivers name these.
DRIVERS = {"nvidia": "gpu.nvidia.com", "amd": "gpu.amd.com", "intel": "gpu.intel.com"}
MAX_LABEL = 63
_NODES = {
    "nvidia": re.compile(r"/dev/nvidia(?P<number>\d+)$"),
    "amd": re.compile(r"/dev/dri/renderD(?P<number>\d+)$"),
}


def driver_of(device: Device, section: DraSection) -> str:
    """The driver that publishes a device."""
    if section.driver is not None:
        return section.driver
    domain = (device.resource or "").partition("/")[0]
    return DRIVERS.get(device.vendor) or f"gpu.{domain}"


def published(
    devices: Iterable[Device], section: DraSection, cuttable: Container[DeviceID] = ()
) -> tuple[Device, ...]:
    """The devices that claims may have, in the order in which a scheduler tries them: those that
    their vendor offers, and GPUs of which partitions can be made."""
    wanted = [
        device
        for device in devices
        if (device.resource is not None or device.id in cuttable)
        and (not section.vendors or device.vendor in section.vendors)
        and not is_for_machines(device)
    ]
    return tuple(sorted(wanted, key=lambda d: (d.vendor, d.pci_address or "", d.index or 0, d.id)))


def is_for_machines(device: Device) -> bool:
    """Whether only a virtual machine can use it: the classes of containers would take it too."""
    return bool(device.functions) or "vfio" in (device.driver or "")


def device_names(devices: Iterable[Device]) -> Mapping[str, Device]:
    """The devices of one driver by their names, which are DNS labels.

    A name that two devices would have is given to neither: theirs end with a digest of their ids.
    """
    devices = tuple(devices)
    names = {device.id: _name(device) for device in devices}
    times = Counter(names.values())
    return {name if times[name := names[d.id]] == 1 else _distinct(name, d.id): d for d in devices}


def mig_name(gpu: str, profile: str, profile_id: int, start: int) -> str:
    """The name of a MIG instance at a place, whether it is there or not.

    The profile's number tells `1g.24gb+me` and `1g.24gb-me` apart.
    """
    label = profile.replace("+", "-").replace(".", "")
    return _label(f"{gpu}-mig-{label}-{profile_id}-{start}", DeviceID(f"{gpu}/{profile}/{start}"))


def name_of(devices: Mapping[str, Device], wanted: DeviceID) -> str | None:
    """The name of a device among those of `device_names`."""
    return next((name for name, device in devices.items() if device.id == wanted), None)


def _name(device: Device) -> str:
    """`gpu-<minor>` at NVIDIA, `gpu-<index>-<render minor>` at AMD, address and PCI id at Intel.

    Nothing selects by a name, it must only stay the same. What has no such name, as a partition
    whose place is not known, is named by its id.
    """
    if device.vendor == "intel" and device.pci_address is not None:
        pci_id = device.attributes.get("device_id", "")
        return _label(f"{device.pci_address}-{pci_id}", device.id)
    pattern = _NODES.get(device.vendor)
    found = (pattern.search(node) for node in device.nodes) if pattern else ()
    numbers = {match["number"] for match in found if match}
    if device.vendor == "nvidia" and device.parent is not None and len(numbers) == 1:
        return _instance_name(device, f"gpu-{min(numbers)}")
    if device.parent is not None or len(numbers) != 1:
        return _label(device.id, device.id)
    (number,) = numbers
    return f"gpu-{number}" if device.vendor == "nvidia" else f"gpu-{device.index}-{number}"


def _instance_name(device: Device, gpu: str) -> str:
    number, start = (device.attributes.get(k, "") for k in ("instance_profile", "placement_start"))
    if not (device.profile and number.isdecimal() and start.isdecimal()):
        return _label(device.id, device.id)
    return mig_name(gpu, device.profile, int(number), int(start))


def _label(text: str, device: DeviceID) -> str:
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return label if 0 < len(label) <= MAX_LABEL else _distinct(label, device)


def _distinct(label: str, device: DeviceID) -> str:
    return f"{label[: MAX_LABEL - 17].strip('-')}-{short_digest(device)}".lstrip("-")
