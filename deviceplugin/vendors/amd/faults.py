"""The faults that AMD discovery finds: common ones with what AMD adds, and KFD's own; pure."""

from deviceplugin import faults as common
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.vendors.amd.kfd import Topology

DISCOVERY = "amd.discovery"
KFD = "amd.kfd"
PARTITIONS = "amd.partitions"
SRIOV = "amd.sriov"
VFIO = "amd.vfio"


def unreadable(device: DeviceID, error: Exception) -> Fault:
    """A file of the device cannot be read or holds no such value; the error names the file."""
    return common.UNREADABLE.fault(device, DISCOVERY, str(error))


def missing_node(device: DeviceID, node: str) -> Fault:
    """A device node that its container would need is not there."""
    return common.NODE_MISSING.fault(device, DISCOVERY, node)


def not_bound(device: DeviceID, driver: str | None) -> Fault:
    """No driver that makes the function usable is bound to it."""
    return common.NOT_BOUND.fault(
        device,
        DISCOVERY,
        _bound(driver),
        action="bind it to amdgpu (containers) or vfio-pci (virtual machines) to have it offered",
    )


def in_other_hands(device: DeviceID, driver: str | None) -> Fault:
    """A whole GPU that another driver has, or none: somebody may want it so."""
    return common.NOT_BOUND.fault(
        device,
        DISCOVERY,
        _bound(driver),
        action="bind it to amdgpu to offer it to containers; otherwise do nothing",
    )


def _bound(driver: str | None) -> str:
    return f"bound to {driver}, not offered" if driver else "without a driver, not offered"


def value_unreadable(device: DeviceID, reason: str) -> Fault:
    """A fact that the device can be offered without."""
    return common.VALUE_UNREADABLE.fault(device, DISCOVERY, reason)


def without_kfd(device: DeviceID, topology: Topology, shown: str = "") -> Fault:
    """KFD does not show the GPU or a part of it, so what only KFD knows is unknown."""
    return Fault(
        device=device,
        source=KFD,
        code="no_kfd_node",
        kind=FaultClass.WARN,
        reason=f"{shown}{topology.why_missing}",
        action=topology.remedy,
    )


def not_single(device: DeviceID, kinds: str) -> Fault:
    """One name for GPUs and partitions of several sizes: a pod gets one of them by chance."""
    return Fault(
        device=device,
        source=PARTITIONS,
        code="not_single",
        kind=FaultClass.WARN,
        reason=f"partitions of different kinds share amd.com/gpu: {kinds} GPUs",
        action="set amd.resource_naming to mixed, or bring all GPUs of the node into one mode",
    )


def unsettled(device: DeviceID, reason: str) -> Fault:
    """The partition mode is unknown, for instance while it is being switched."""
    return common.MODE_UNKNOWN.fault(device, PARTITIONS, reason)


def partitions_missing(device: DeviceID, reason: str) -> Fault:
    """Fewer partitions live than the mode makes."""
    return common.PARTITION_MISSING.fault(
        device,
        PARTITIONS,
        reason,
        action="look for 'Skip xcp node' in the kernel log: DRM minors may have run out",
    )


def vfio_node_missing(device: DeviceID, node: str) -> Fault:
    """A virtual machine's function lacks a node by which the machine would get it."""
    return common.VFIO_NODE_MISSING.fault(device, VFIO, node)


def no_iommu_group(device: DeviceID, path: str) -> Fault:
    """Without an IOMMU group, whose link would be at `path`, no virtual machine gets it."""
    return common.NO_IOMMU_GROUP.fault(
        device,
        VFIO,
        path,
        action="switch the IOMMU on: in the firmware, and amd_iommu=on or intel_iommu=on",
    )


def group_in_use(device: DeviceID, what: str) -> Fault:
    """The IOMMU group has functions that no virtual machine gets."""
    return common.IOMMU_GROUP_IN_USE.fault(
        device,
        VFIO,
        what,
        action="bind all functions of the group to vfio-pci, or switch ACS on to split it",
    )


def size_unknown(device: DeviceID) -> Fault:
    """No source has the memory of a virtual function, so it has no size class."""
    return common.SIZE_UNKNOWN.fault(
        device,
        SRIOV,
        f"no source has the frame buffer size of {device}",
        action="install the extra deviceplugin[amd], or report the PCI id of its physical function",
    )


def not_listed(device: DeviceID, size: str) -> Fault:
    """A virtual function of a size that the configuration's list does not have."""
    return common.SIZE_NOT_LISTED.fault(
        device,
        SRIOV,
        f"mxgpu.instances lists no instance of {size}",
        action="add an instance of that memory to mxgpu.instances, or empty the list",
    )
