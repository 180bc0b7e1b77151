"""What can be wrong with Intel GPUs at discovery, each with what a person should do; pure."""

from collections.abc import Sequence

from deviceplugin import faults as common
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import DeviceID, Fault, FaultClass

DISCOVERY, SRIOV, VFIO = "intel.discovery", "intel.sriov", "intel.vfio"


def unreadable_device(address: str, reason: str) -> Fault:
    """A function whose identity or driver could not be read: it costs this device only."""
    return common.UNREADABLE.fault(DeviceID(address), DISCOVERY, reason)


def unreadable_source(address: str, problems: Sequence[str]) -> Fault:
    """A value was taken from a lesser source, because a better one failed."""
    what = "; ".join(dict.fromkeys(problems))
    return common.VALUE_UNREADABLE.fault(DeviceID(address), "intel.memory", what)


def unused_driver(address: str, driver: str | None) -> Fault:
    """A function that no driver serves which would let it be offered."""
    bound = f"bound to {driver}" if driver else "without a driver"
    return common.NOT_BOUND.fault(
        DeviceID(address),
        DISCOVERY,
        f"{bound}, not offered",
        action="bind it to xe or i915 to offer it to containers; otherwise do nothing",
    )


def survivability(address: str, mode: str) -> Fault:
    """The xe driver runs without the GPU, only to have its firmware repaired (xe_survivability)."""
    return _fault(
        address,
        "survivability.survivability_mode",
        f"{DEVICES}/{address}/survivability_mode: {mode}",
        "flash the GPU's firmware (fwupd or Intel's igsc), then power cycle the node",
    )


def no_drm(address: str, driver: str) -> Fault:
    """A driver is bound but made no nodes, as after a failed probe or a wedged GPU."""
    return _fault(
        address,
        "discovery.no_drm_nodes",
        f"{DEVICES}/{address}/drm is absent while {driver} is bound",
        f"look for {driver} errors in the kernel log, then rebind the driver",
        FaultClass.RESET,
    )


def missing_node(address: str, nodes: Sequence[str], kind: FaultClass = FaultClass.SETUP) -> Fault:
    """A node that the kernel announces is not in /dev as we see it."""
    return common.NODE_MISSING.fault(DeviceID(address), DISCOVERY, ", ".join(nodes), kind=kind)


def unbound_functions(address: str, unbound: int, enabled: int) -> Fault:
    """Virtual functions that no driver took; the GPU is divided all the same."""
    return _fault(
        address,
        "sriov.virtual_functions_unbound",
        f"{unbound} of {enabled} virtual functions are bound to no driver",
        "bind them to xe or i915 for containers or to vfio-pci for virtual machines, or write 1"
        f" to {DEVICES}/{address}/sriov_drivers_autoprobe before enabling them",
        FaultClass.INFO,
    )


def undriven_functions(address: str, driver: str | None) -> Fault:
    """Virtual functions need the driver of their physical function: it answers for the GPU."""
    bound = f"bound to {driver}" if driver else "bound to no driver"
    return _fault(
        address,
        "sriov.physical_function_undriven",
        f"{DEVICES}/{address}/driver: {bound}, while its virtual functions are enabled",
        "bind it to xe or i915 and enable the virtual functions again",
        FaultClass.RESET,
    )


def unknown_size(address: str) -> Fault:
    """A virtual function without a size has no name that would be true."""
    return common.SIZE_UNKNOWN.fault(
        DeviceID(address),
        SRIOV,
        f"its memory is not in sriov_admin, debugfs or iov of the physical function of"
        f" {address}, and its driver does not report it",
        action="use a kernel with sriov_admin (Linux 7.0), or give the daemon debugfs",
    )


def not_listed(address: str, profile: str) -> Fault:
    """The list of instances is also the list of what is offered."""
    return common.SIZE_NOT_LISTED.fault(
        DeviceID(address),
        SRIOV,
        f"{profile} is not of a size in intel_xe.instances",
        action=f"add an instance of that size to intel_xe.instances, or divide {address}'s GPU"
        " otherwise",
    )


def no_links(address: str, reason: str) -> Fault:
    """Its links in /dev/dri/by-path, for programs that look for GPUs by address."""
    return _fault(
        address,
        "discovery.no_links",
        f"containers get no /dev/dri/by-path: {reason}",
        "let the daemon write there (deploy/patches/intel-links.yaml), or set intel.by_path: false",
        FaultClass.INFO,
    )


def vfio_missing(address: str, nodes: Sequence[str]) -> Fault:
    """A function for virtual machines lacks the nodes by which a guest would get it."""
    return common.VFIO_NODE_MISSING.fault(DeviceID(address), VFIO, ", ".join(nodes))


def no_iommu(address: str) -> Fault:
    """Without an IOMMU group a function cannot be given to a guest."""
    return common.NO_IOMMU_GROUP.fault(
        DeviceID(address),
        VFIO,
        f"{DEVICES}/{address}",
        action="turn the IOMMU on in the firmware and with intel_iommu=on on the kernel command"
        " line",
    )


def group_in_use(address: str, group: str, others: Sequence[str]) -> Fault:
    """The kernel gives a group to a guest only when nothing in it is used by the host."""
    what = f"group {group} also has {', '.join(others)}"
    return common.IOMMU_GROUP_IN_USE.fault(DeviceID(address), VFIO, what)


def _fault(
    address: str, name: str, reason: str, action: str, kind: FaultClass = FaultClass.HARDWARE
) -> Fault:
    """`name` is the source without the vendor and the code, with a dot between."""
    source, _, code = name.partition(".")
    return Fault(
        device=DeviceID(address),
        source=f"intel.{source}",
        code=code,
        reason=reason,
        kind=kind,
        action=action,
    )
