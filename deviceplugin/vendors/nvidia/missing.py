"""GPUs of the PCI bus, or of NVML's count, that do not answer: what is known of them, and why.

A GPU that was never read has no UUID: it is shown under its PCI address, or under NVML's index, and
offered as nothing. One that left the bus is not missing but gone.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError, LibraryError
from deviceplugin.faults import NOT_BOUND
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction
from deviceplugin.host.pci import read_gpus as read_functions
from deviceplugin.host.sriov import read_physical_function
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendors.nvidia.codes import meaning_of, severity_of
from deviceplugin.vendors.nvidia.discovery import Scan
from deviceplugin.vendors.nvidia.gpus import NvidiaGpu
from deviceplugin.vendors.nvidia.mig import UnreadInstance

VENDOR_ID = 0x10DE
SOURCE, DISCOVERY = "nvidia.nvml", "nvidia.discovery"
DRIVER = "nvidia"
_PASSED_THROUGH = frozenset({"vfio-pci", "nvgrace_gpu_vfio_pci"})
_UNLISTED = (
    "see the kernel log for NVRM messages about this address: they say whether the driver does not"
    " support the card, the card needs another driver (a vGPU has one of its own) or has failed"
)
_NO_DRIVER = (
    "load NVIDIA's driver to have it offered, or vfio-pci for virtual machines; a card that the"
    " driver does not take is unsupported or a vGPU that needs its own driver, see NVRM messages in"
    " the kernel log"
)

Known = Mapping[str, tuple[Device, ...]]
Found = tuple[tuple[Device, ...], tuple[Fault, ...]]


def missing_devices(host: Host, scan: Scan, known: Known) -> Found:
    """The last devices of the GPUs that no longer answer, and placeholders for those that never
    did, each with a fault; `known` has the devices of the last discovery by PCI address."""
    absent = list(_absent(host, scan, known))
    found = [_missing(function, scan, _served(known, function.address)) for function in absent]
    if not _unplaced(absent, scan):  # no function on the bus to which they can belong
        found += [_unaddressed(index, error, scan) for index, error in scan.nameless.items()]
    devices = tuple(device for part, _ in found for device in part)
    return devices, tuple(fault for _, fault in found)


def unread_instances(scan: Scan, known: Known) -> Found:
    """The MIG devices that NVML does not describe, each with a fault: as they were last, else
    under their UUID and offered as nothing; of one without a UUID the GPU has a warning."""
    devices: list[Device] = []
    faults: list[Fault] = []
    for gpu in scan.gpus:
        for one in gpu.unread:
            device = _instance(gpu, one, known.get(gpu.pci_address, ()))
            devices += [device] if device else []
            who = f"MIG device {one.slot} of the GPU at {gpu.pci_address}"
            fault = _failure(device.id if device else DeviceID(gpu.uuid), who, [one.error])
            faults.append(fault if device else replace(fault, kind=FaultClass.WARN))
    return tuple(devices), tuple(faults)


def _instance(gpu: NvidiaGpu, one: UnreadInstance, known: Sequence[Device]) -> Device | None:
    slots = {device.index: device for device in known if device.parent == gpu.uuid}
    ids = {device.id: device for device in slots.values()}
    if one.uuid is None:
        return slots.get(one.slot)
    return ids.get(DeviceID(one.uuid)) or Device(
        id=DeviceID(one.uuid),
        vendor="nvidia",
        product=gpu.product,
        index=one.slot,
        parent=DeviceID(gpu.uuid),
        pci_address=gpu.pci_address,
    )


def _served(known: Known, address: str) -> tuple[Device, ...]:
    return tuple(device for device in known.get(address, ()) if not is_placeholder(device))


def is_placeholder(device: Device) -> bool:
    """Whether NVML cannot be asked about a device, because it has no UUID."""
    return device.id in (device.pci_address, _index_id(device.index))


def _absent(host: Host, scan: Scan, known: Known) -> Iterator[PciFunction]:
    """GPUs that have not answered: of the bus (of our memory where it cannot be read) and
    those that only NVML knows of."""
    answered = {*(gpu.pci_address for gpu in scan.gpus), *scan.displays}
    lost: list[str] = []
    functions = read_functions(host, VENDOR_ID, lambda address, _: lost.append(address))
    on_bus = {f.address: f for f in (*functions, *map(_unseen, lost))}
    for address in sorted((on_bus.keys() or known.keys()) | scan.failed.keys()):
        function = on_bus.get(address) or _unseen(address)
        absent = address not in answered and function.driver not in _PASSED_THROUGH
        if absent and not _is_virtual(host, address):
            yield function


def _is_virtual(host: Host, address: str) -> bool:
    """One of which this cannot be read is missed like a whole GPU: better a fault than silence."""
    try:
        return read_physical_function(host, address) is not None
    except DiscoveryError:
        return False


def _unseen(address: str) -> PciFunction:
    return PciFunction(
        address=address,
        vendor_id=VENDOR_ID,
        device_id=0,
        class_id=0,
        driver=None,
        numa_node=None,
    )


def _is_others(function: PciFunction) -> bool:
    """Whether another driver than NVIDIA's has the function."""
    return function.driver not in (None, DRIVER)


def _unplaced(absent: Sequence[PciFunction], scan: Scan) -> bool:
    return any(not _is_others(f) and f.address not in scan.failed for f in absent)


def _missing(
    function: PciFunction, scan: Scan, last: tuple[Device, ...]
) -> tuple[tuple[Device, ...], Fault]:
    error = scan.failed.get(function.address)
    if error is None and _is_others(function):
        return _in_other_hands(function)
    devices = last or (_placeholder(function),)
    if error is not None:
        return devices, _failure(devices[0].id, f"GPU at {function.address}", [error])
    if scan.nameless:
        who = f"NVML gives no GPU for {function.address}"
        return devices, _failure(devices[0].id, who, list(scan.nameless.values()))
    if function.driver is None and not last:
        return _in_other_hands(function)
    return devices, _unlisted(devices[0].id, function, seen=bool(last))


def _in_other_hands(function: PciFunction) -> tuple[tuple[Device, ...], Fault]:
    """Nothing is wrong with a GPU that another driver has, or none."""
    device = _placeholder(function)
    what = f"bound to {function.driver}" if function.driver else "without a driver"
    action = None if function.driver else _NO_DRIVER
    return (device,), NOT_BOUND.fault(device.id, DISCOVERY, f"{what}, not offered", action=action)


def _unlisted(device: DeviceID, function: PciFunction, *, seen: bool) -> Fault:
    """A GPU that was served is withdrawn until it is back; one that never was is not offered."""
    driver = f"bound to {function.driver}" if function.driver else "without a driver"
    return Fault(
        device=device,
        source=SOURCE,
        code="not_listed",
        reason=f"NVML does not list the GPU at {function.address}, {driver}",
        action=_UNLISTED,
        kind=FaultClass.RESET if seen else FaultClass.SETUP,
    )


def _unaddressed(index: int, error: LibraryError, scan: Scan) -> tuple[tuple[Device, ...], Fault]:
    """A GPU that NVML counts and nothing else is known of, as the integrated one of a Tegra."""
    device = Device(id=_index_id(index), vendor="nvidia", index=index)
    counted = len(scan.nameless)
    none = f"{counted} GPU{'s' * (counted > 1)} counted, none usable: " if not scan.gpus else ""
    return (device,), _failure(device.id, f"{none}NVML's GPU {index} has no PCI address", [error])


def _index_id(index: int | None) -> DeviceID:
    return DeviceID(f"nvml-{index}")


def _placeholder(function: PciFunction) -> Device:
    return Device(
        id=DeviceID(function.address),
        vendor="nvidia",
        pci_address=function.address,
        numa_node=function.numa_node,
    )


def _failure(device: DeviceID, who: str, errors: Sequence[LibraryError]) -> Fault:
    """The fault that NVML's errors mean; of several, of which NVML does not say whose each is, all
    are named and the worst decides."""
    by_code = {error.code: error for error in errors}
    worst = max(by_code.values(), key=severity_of)
    meanings = [(meaning_of(error), error) for error in by_code.values()]
    return Fault(
        device=device,
        source=SOURCE,
        code=meaning_of(worst).name,
        reason=f"{who}: " + " or ".join(f"{error}: {known.what}" for known, error in meanings),
        action="; or: ".join(dict.fromkeys(known.action for known, _ in meanings)),
        kind=meaning_of(worst).kind,
    )


def by_address(devices: Sequence[Device]) -> Mapping[str, tuple[Device, ...]]:
    """Devices grouped by the PCI address of their GPU, the GPU itself first."""
    grouped: dict[str, tuple[Device, ...]] = {}
    for device in sorted(devices, key=lambda device: device.parent is not None):
        if device.pci_address is not None:
            grouped[device.pci_address] = (*grouped.get(device.pci_address, ()), device)
    return grouped
