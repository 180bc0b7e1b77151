"""PCI functions as sysfs shows them (Documentation/ABI/testing/sysfs-bus-pci)."""

import re
from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host
from deviceplugin.model import MAX_NUMA_NODES, Device

DEVICES = "/sys/bus/pci/devices"
# VGA controller, 3D controller, other display controller, processing accelerator.
GPU_CLASSES = frozenset({0x0300, 0x0302, 0x0380, 0x1200})
_ADDRESS = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")


class PciFunction(Struct, frozen=True, kw_only=True):
    """What identifies a PCI function; ids as numbers, `numa_node` None where unknown."""

    address: str
    vendor_id: int
    device_id: int
    class_id: int
    driver: str | None
    numa_node: int | None

    @property
    def path(self) -> str:
        """The function's directory in sysfs."""
        return f"{DEVICES}/{self.address}"


def parse_address(text: str) -> str:
    """The sysfs form (`0000:3a:00.0`) of a PCI address; raises ValueError for anything else.

    NVML writes an 8-digit domain in upper case; domains above 0xffff keep all their digits.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a PCI address")
    domain, bus, device, function = match.groups()
    return f"{int(domain, 16):04x}:{bus.lower()}:{device.lower()}.{function}"


def is_address(text: str) -> bool:
    """Whether `text` is a PCI address as sysfs writes one."""
    return _ADDRESS.fullmatch(text) is not None


def read_bus(host: Host) -> tuple[str, ...]:
    """The addresses of all PCI functions, in order."""
    return tuple(name for name in host.read_names(DEVICES) if _ADDRESS.fullmatch(name))


def _raise(_: str, error: DiscoveryError) -> None:
    raise error


def read_gpus(
    host: Host,
    vendor_id: int,
    unreadable: Callable[[str, DiscoveryError], None] = _raise,
    classes: Collection[int] = GPU_CLASSES,
) -> tuple[PciFunction, ...]:
    """All functions of a PCI vendor that are of one of `classes`, in address order.

    `classes` are base class and subclass as one number (pci_ids.h): GPUs and most accelerators are
    of GPU_CLASSES; others call themselves 0x0880 (system peripheral) or 0x0b40 (co-processor).

    A function of the vendor that may be one of them but cannot be read is passed to `unreadable`
    with the error, so that it costs itself alone; without `unreadable` the error is raised.
    """
    found: list[PciFunction] = []
    for address in read_bus(host):
        try:
            function = read_function(host, address)
        except DiscoveryError as error:
            if _may_be(host, address, vendor_id, classes):
                unreadable(address, error)
            continue
        if function and function.vendor_id == vendor_id and function.class_id >> 8 in classes:
            found.append(function)
    return tuple(found)


def read_function(host: Host, address: str) -> PciFunction | None:
    """One function, None where it is gone or is vanishing while it is read.

    Raises DiscoveryError, naming the file, where it is there and cannot be read.
    """
    path = f"{DEVICES}/{address}"
    vendor, device, class_id = (
        host.read_int(f"{path}/{name}") for name in ("vendor", "device", "class")
    )
    if vendor is None or device is None or class_id is None:
        return None
    return PciFunction(
        address=address,
        vendor_id=vendor,
        device_id=device,
        class_id=class_id,
        driver=host.read_link_name(f"{path}/driver"),
        numa_node=read_numa_node(host, address),
    )


def _may_be(host: Host, address: str, vendor_id: int, classes: Collection[int]) -> bool:
    """Whether an unreadable function is the vendor's, and not known to be of another class."""
    try:
        if host.read_int(f"{DEVICES}/{address}/vendor") != vendor_id:
            return False
        class_id = host.read_int(f"{DEVICES}/{address}/class")
    except DiscoveryError as error:
        return f"{address}/class" in str(error)
    return class_id is not None and class_id >> 8 in classes


def devices_at(address: str, devices: Sequence[Device]) -> Sequence[Device]:
    """The whole devices at a PCI address, without their partitions; pure."""
    here = {d.id: d for d in devices if d.pci_address == address}
    return [d for d in here.values() if d.parent not in here]


def read_numa_node(host: Host, address: str) -> int | None:
    """The NUMA node of a PCI function; None for the kernel's -1 and for any other text."""
    try:
        node = host.read_int(f"{DEVICES}/{address}/numa_node")
    except DiscoveryError:
        return None
    return node if node is not None and 0 <= node < MAX_NUMA_NODES else None


def read_pci_path(host: Host, address: str) -> str | None:
    """The directory of a function under /sys/devices: each step is a bridge that it is behind."""
    path = host.read_real_path(f"{DEVICES}/{address}")
    return path if path and path.startswith("/sys/devices/") else None


def read_nic_address(host: Host, name: str) -> str | None:
    """The PCI address of a network interface or an RDMA device, None where there is none."""
    for kind in ("net", "infiniband"):
        path = host.read_real_path(f"/sys/class/{kind}/{name}/device")
        if path and _ADDRESS.fullmatch(path.rpartition("/")[2]):
            return path.rpartition("/")[2]
    return None
