"""The faults that AMD discovery finds: their sources, codes and texts; pure."""

from deviceplugin.model import DeviceID, Fault, FaultClass

DISCOVERY = "amd.discovery"
KFD = "amd.kfd"
PARTITIONS = "amd.partitions"
SRIOV = "amd.sriov"


def unreadable(device: DeviceID, error: Exception) -> Fault:
    """A file of the device cannot be read or holds nonsense; the error names the file."""
    return Fault(
        device=device,
        source=DISCOVERY,
        code="unreadable",
        kind=FaultClass.WARN,
        reason=str(error),
        action="look at the kernel log of the GPU; it is not offered until the file can be read",
    )


def missing_node(device: DeviceID, what: str) -> Fault:
    """A device node that its container would need is not there."""
    return Fault(
        device=device,
        source=DISCOVERY,
        code="missing-node",
        kind=FaultClass.SETUP,
        reason=f"{what} does not exist",
        action="check udev on the node, and that the daemon's container sees the host's /dev",
    )


def not_bound(device: DeviceID, driver: str | None) -> Fault:
    """No driver that makes the function usable is bound to it."""
    return Fault(
        device=device,
        source=DISCOVERY,
        code="not-bound",
        kind=FaultClass.INFO,
        reason=f"driver is {driver}" if driver else "no driver is bound",
        action="bind it to amdgpu (containers) or vfio-pci (virtual machines) to have it offered",
    )


def without_kfd(device: DeviceID, reason: str) -> Fault:
    """KFD does not show the GPU or a part of it, so what only KFD knows is unknown."""
    return Fault(
        device=device,
        source=KFD,
        code="no-kfd-node",
        kind=FaultClass.WARN,
        reason=reason,
        action="give the daemon the render nodes in its device cgroup; see docs/vendors/amd.md",
    )


def unsettled(device: DeviceID, reason: str) -> Fault:
    """The partition mode cannot be told, for instance while it is being switched."""
    return Fault(
        device=device,
        source=PARTITIONS,
        code="mode-unknown",
        kind=FaultClass.WARN,
        reason=reason,
        action="if this stays, look at the kernel log and set the partition mode again",
    )


def partitions_missing(device: DeviceID, reason: str) -> Fault:
    """Fewer partitions live than the mode makes."""
    return Fault(
        device=device,
        source=PARTITIONS,
        code="partition-missing",
        kind=FaultClass.INFO,
        reason=reason,
        action="look for 'Skip xcp node' in the kernel log: DRM minors may have run out",
    )


def not_usable(device: DeviceID, reason: str, action: str) -> Fault:
    """A virtual function that cannot be given to anybody."""
    return Fault(
        device=device,
        source=SRIOV,
        code="vf-not-usable",
        kind=FaultClass.SETUP,
        reason=reason,
        action=action,
    )


def not_listed(device: DeviceID, size: str) -> Fault:
    """A virtual function of a size that the configuration's list does not have."""
    return Fault(
        device=device,
        source=SRIOV,
        code="size-not-listed",
        kind=FaultClass.INFO,
        reason=f"mxgpu.instances lists no instance of {size}",
        action="add an instance of that memory to mxgpu.instances, or empty the list",
    )
