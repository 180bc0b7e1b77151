"""What a discovery of the node's NVIDIA GPUs finds, each GPU for itself: devices and faults."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deviceplugin.errors import DiscoveryError, LibraryError
from deviceplugin.host import Host
from deviceplugin.host.pci import PciFunction, read_numa_node
from deviceplugin.host.pci import read_gpus as read_functions
from deviceplugin.host.sriov import read_physical_function
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendors.nvidia.devices import Locality, Naming, devices_of_gpu
from deviceplugin.vendors.nvidia.gpus import (
    DISPLAYS,
    NvidiaGpu,
    read_gpu,
    read_handle,
    read_pci_address,
)
from deviceplugin.vendors.nvidia.library import GPU_IS_LOST, RESET_REQUIRED, Nvml
from deviceplugin.vendors.nvidia.links import Links
from deviceplugin.vendors.nvidia.mig import read_mig_minors

VENDOR_ID = 0x10DE
SOURCE = "nvidia.nvml"
MAX_GPUS = 256
_PASSED_THROUGH = frozenset({"vfio-pci", "nvgrace_gpu_vfio_pci"})
_ACTIONS = {
    GPU_IS_LOST: "reboot the node; if it comes back, check the GPU's seating and power",
    RESET_REQUIRED: "reset the GPU (nvidia-smi --gpu-reset) after draining the node",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The GPUs that answered, and the error of each that did not, by PCI address."""

    gpus: tuple[NvidiaGpu, ...]
    failed: Mapping[str, LibraryError]
    nameless: tuple[LibraryError, ...]


def read_gpus(nvml: Nvml) -> Scan:
    """Ask NVML for every GPU; one that fails does not keep the others from being read."""
    gpus: list[NvidiaGpu] = []
    failed: dict[str, LibraryError] = {}
    nameless: list[LibraryError] = []
    for index in range(nvml.count("nvmlDeviceGetCount", MAX_GPUS)):
        address = None
        try:
            handle = read_handle(nvml, index)
            address = read_pci_address(nvml, handle)
            gpus.append(read_gpu(nvml, index, handle, address))
        except LibraryError as error:
            if address is None:
                nameless.append(error)
            else:
                failed[address] = error
    serving = tuple(gpu for gpu in gpus if gpu.product not in DISPLAYS)
    return Scan(gpus=serving, failed=failed, nameless=tuple(nameless))


def healthy_devices(
    host: Host, scan: Scan, naming: Naming, links: Links
) -> tuple[tuple[Device, ...], tuple[Fault, ...]]:
    """The devices of the GPUs that answered, with their links, and the faults of their layout."""
    minors = read_mig_minors(host)
    found = [
        devices_of_gpu(
            host,
            gpu,
            naming,
            minors,
            Locality(
                numa_node=read_numa_node(host, gpu.pci_address),
                links=links.get(DeviceID(gpu.uuid), ()),
            ),
        )
        for gpu in scan.gpus
    ]
    devices = tuple(device for part, _ in found for device in part)
    return devices, tuple(fault for _, part in found for fault in part)


def missing_devices(
    host: Host, scan: Scan, known: Mapping[str, tuple[Device, ...]]
) -> tuple[tuple[Device, ...], tuple[Fault, ...]]:
    """GPUs on the PCI bus that NVML no longer answers for: their last devices, each faulted.

    A GPU that was never seen whole has no UUID yet: it is shown under its PCI address and
    offered as nothing. One that left the bus is not missing but gone.
    """
    answered = {gpu.pci_address for gpu in scan.gpus}
    devices: list[Device] = []
    faults: list[Fault] = []
    for function in _absent(host, scan, answered, known):
        last = known.get(function.address) or (_placeholder(function),)
        devices += last
        error = scan.failed.get(function.address) or _only(scan.nameless)
        faults.append(_lost(last[0].id, function, error))
    return tuple(devices), tuple(faults)


def _absent(
    host: Host, scan: Scan, answered: set[str], known: Mapping[str, tuple[Device, ...]]
) -> Iterator[PciFunction]:
    """GPUs that have not answered: of the bus (of our memory where it cannot be read) and
    those that only NVML knows of."""
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


def _placeholder(function: PciFunction) -> Device:
    return Device(
        id=DeviceID(function.address),
        vendor="nvidia",
        pci_address=function.address,
        numa_node=function.numa_node,
    )


def _only(errors: Sequence[LibraryError]) -> LibraryError | None:
    """NVML does not say which GPU a failing index is; all errors alike say enough."""
    return errors[0] if len({error.code for error in errors}) == 1 else None


def _lost(device: DeviceID, function: PciFunction, error: LibraryError | None) -> Fault:
    if error is None:
        driver = f"bound to {function.driver}" if function.driver else "without a driver"
        code = "not_listed"
        reason = f"NVML does not list the GPU at {function.address}, {driver}"
        action = "check the kernel log for NVRM messages about this address"
    else:
        code = {GPU_IS_LOST: "gpu_lost", RESET_REQUIRED: "reset_required"}.get(
            error.code, f"nvml_{error.code}"
        )
        reason = f"GPU at {function.address}: {error}"
        action = _ACTIONS.get(error.code, "see the kernel log (NVRM); reset the GPU or reboot")
    kind = FaultClass.RESET if code == "reset_required" else FaultClass.REBOOT
    return Fault(device=device, source=SOURCE, code=code, reason=reason, action=action, kind=kind)


def by_address(devices: Sequence[Device]) -> Mapping[str, tuple[Device, ...]]:
    """Devices grouped by the PCI address of their GPU, the GPU itself first."""
    grouped: dict[str, tuple[Device, ...]] = {}
    for device in sorted(devices, key=lambda device: device.parent is not None):
        if device.pci_address is not None:
            grouped[device.pci_address] = (*grouped.get(device.pci_address, ()), device)
    return grouped
