"""Fault codes that several vendors report, each with its class, reason and advice; pure.

One thing has one code, whoever finds it: an alert on `node_missing` fires for every vendor. A
vendor adds codes of its own for what only its hardware knows (an XID, an ECC counter).

A code is `snake_case`. A source is `<vendor>.<part>`, where the part says what was looked at
(`nvidia.xid`, `amd.sriov`). Configuration names a fault `source/code`.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.model import DeviceID, Fault, FaultClass

__all__ = [
    "COMMON",
    "DRIVER_ABSENT",
    "DRIVER_FAILED",
    "GONE",
    "HEALTH_UNREADABLE",
    "IOMMU_GROUP_IN_USE",
    "LOST",
    "MODE_UNKNOWN",
    "NODE_MISSING",
    "NOT_BOUND",
    "NO_ANSWER",
    "NO_IOMMU_GROUP",
    "OFF_THE_BUS",
    "PARTITION_MISSING",
    "SIZE_NOT_LISTED",
    "SIZE_UNKNOWN",
    "STALE_FILES",
    "UNHEALTHY",
    "UNREADABLE",
    "VALUE_UNREADABLE",
    "VFIO_NODE_MISSING",
    "CommonFault",
    "code_problem",
    "former_name",
    "source_problem",
    "spellings",
]

_CODE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_PART = re.compile(r"[a-z0-9]+([_.][a-z0-9]+)*")
MAX_CODE = 63  # characters; codes and sources are label values of metrics
MAX_SOURCE = 126


class CommonFault(Struct, frozen=True, kw_only=True):
    """A code of the table: what it means (`kind`), in what words, and what a person should do.

    `reason` holds `{what}`: the node, file, driver or error that the fault is about.
    """

    code: str
    kind: FaultClass
    reason: str
    action: str

    def fault(
        self,
        device: DeviceID,
        source: str,
        what: str = "",
        *,
        kind: FaultClass | None = None,
        action: str | None = None,
    ) -> Fault:
        """The fault of `device`; `kind` and `action` replace the table's where the vendor knows
        better, for instance the command that creates a missing node."""
        return Fault(
            device=device,
            source=source,
            code=self.code,
            reason=self.reason.format(what=what),
            kind=kind or self.kind,
            action=self.action if action is None else action,
        )


def _common(code: str, kind: FaultClass, reason: str, action: str) -> CommonFault:
    return CommonFault(code=code, kind=kind, reason=reason, action=action)


NODE_MISSING = _common(
    "node_missing",
    FaultClass.SETUP,
    "device node {what} does not exist",
    "check udev on the node, and that the daemon's container mounts the host's /dev",
)
VFIO_NODE_MISSING = _common(
    "vfio_node_missing",
    FaultClass.SETUP,
    "VFIO node {what} does not exist",
    "load vfio-pci and vfio_iommu_type1, and mount the host's /dev/vfio into the daemon",
)
NO_IOMMU_GROUP = _common(
    "no_iommu_group",
    FaultClass.SETUP,
    "{what} has no IOMMU group",
    "turn the IOMMU on in the firmware and on the kernel command line",
)
IOMMU_GROUP_IN_USE = _common(
    "iommu_group_in_use",
    FaultClass.SETUP,
    "the host uses other functions of the same IOMMU group: {what}",
    "bind every function of the group to vfio-pci or to no driver",
)
UNREADABLE = _common(
    "unreadable",
    FaultClass.HARDWARE,
    "the device cannot be read: {what}",
    "look at the kernel log of the GPU; it is not offered until it can be read",
)
VALUE_UNREADABLE = _common(
    "value_unreadable",
    FaultClass.WARN,
    "a value cannot be read: {what}",
    "read the named file on the node; another source was used, or the value is unknown",
)
NOT_BOUND = _common(
    "not_bound",
    FaultClass.INFO,
    "no driver that serves the device is bound to it: {what}",
    "bind the vendor's driver (containers) or vfio-pci (virtual machines) to have it offered",
)
PARTITION_MISSING = _common(
    "partition_missing",
    FaultClass.INFO,
    "fewer partitions exist than the mode makes: {what}",
    "look for the driver's messages in the kernel log",
)
MODE_UNKNOWN = _common(
    "mode_unknown",
    FaultClass.WARN,
    "the partition mode is unknown: {what}",
    "if this stays, look at the kernel log and set the partition mode again",
)
SIZE_UNKNOWN = _common(
    "size_unknown",
    FaultClass.WARN,
    "the size of the device is unknown, so it has no resource name: {what}",
    "give the daemon the files that hold the size; see the vendor's page",
)
SIZE_NOT_LISTED = _common(
    "size_not_listed",
    FaultClass.INFO,
    "the configuration lists no instance of this size: {what}",
    "add an instance of that size to the vendor's section, or empty the list",
)
LOST = _common(
    "lost",
    FaultClass.REBOOT,
    "the driver lost the device: {what}",
    "reboot the node; if it comes back, check seating and power",
)
OFF_THE_BUS = _common(
    "off_the_bus",
    FaultClass.REBOOT,
    "the function does not answer on the PCI bus",
    "reboot the node; if it returns, check the seating",
)
GONE = _common(
    "gone",
    FaultClass.RESET,
    "what the device needs was there and is gone: {what}",
    "see the kernel log; reset the GPU or reload the driver",
)
NO_ANSWER = _common(
    "no_answer",
    FaultClass.RESET,
    "a driver call about it does not return: {what}",
    "see the kernel log; reset the GPU or reboot the node",
)
HEALTH_UNREADABLE = _common(
    "health_unreadable",
    FaultClass.WARN,
    "its health cannot be read, the last known stands: {what}",
    "see the kernel log if this stays",
)
UNHEALTHY = _common(
    "unhealthy",
    FaultClass.RESET,
    "the vendor's agent calls it unhealthy: {what}",
    "see the agent's log and the kernel log for this GPU",
)
DRIVER_ABSENT = _common("driver_absent", FaultClass.SETUP, "{what}", "load the driver")
DRIVER_FAILED = _common(
    "driver_failed", FaultClass.REBOOT, "{what}", "see the vendor's messages in the kernel log"
)
STALE_FILES = _common(
    "stale_files",
    FaultClass.SETUP,
    "its nodes have changed and its CDI file cannot be written: {what}",
    "make room in the CDI directory and let it be written",
)

COMMON: Mapping[str, CommonFault] = MappingProxyType(
    {
        common.code: common
        for common in (
            NODE_MISSING,
            VFIO_NODE_MISSING,
            NO_IOMMU_GROUP,
            IOMMU_GROUP_IN_USE,
            UNREADABLE,
            VALUE_UNREADABLE,
            NOT_BOUND,
            PARTITION_MISSING,
            MODE_UNKNOWN,
            SIZE_UNKNOWN,
            SIZE_NOT_LISTED,
            LOST,
            OFF_THE_BUS,
            GONE,
            NO_ANSWER,
            HEALTH_UNREADABLE,
            UNHEALTHY,
            DRIVER_ABSENT,
            DRIVER_FAILED,
            STALE_FILES,
        )
    }
)

# New name to the name of 0.1; a name that begins with a dot holds for every vendor.
FORMER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "amd.discovery/node_missing": "amd.discovery/missing-node",
        "amd.discovery/not_bound": "amd.discovery/not-bound",
        "amd.kfd/no_kfd_node": "amd.kfd/no-kfd-node",
        "amd.partitions/mode_unknown": "amd.partitions/mode-unknown",
        "amd.partitions/partition_missing": "amd.partitions/partition-missing",
        "amd.sriov/size_not_listed": "amd.sriov/size-not-listed",
        "amd.sriov/size_unknown": "amd.sriov/vf-not-usable",
        "amd.vfio/iommu_group_in_use": "amd.sriov/vf-not-usable",
        "amd.vfio/no_iommu_group": "amd.sriov/vf-not-usable",
        "amd.vfio/vfio_node_missing": "amd.discovery/missing-node",
        "intel.discovery/not_bound": "intel.discovery/not_served",
        "intel.discovery/unreadable": "intel.discovery/unreadable_device",
        "intel.memory/value_unreadable": "intel.memory/unreadable_source",
        "intel.sriov/size_not_listed": "intel.sriov/not_listed",
        "intel.sriov/size_unknown": "intel.sriov/quota_unknown",
        "nvidia.discovery/node_missing": "nvidia.layout/node_missing",
        "nvidia.vfio/vfio_node_missing": "nvidia.vgpu/vfio_node_missing",
        ".probe/health_unreadable": ".probe/unreadable",
        ".wedged/bus_reset": ".wedged/bus-reset",
        ".wedged/cold_reset": ".wedged/cold-reset",
        ".wedged/vendor_specific": ".wedged/vendor-specific",
    }
)

_NEW_NAMES = {former: name for name, former in FORMER_NAMES.items()}


def former_name(name: str) -> str | None:
    """What a fault (`source/code`) was called in 0.1, None where it has its old name.

    Configuration may still use the former name, and the log event `fault` shows it as `was`.
    """
    return _renamed(FORMER_NAMES, name)


def spellings(name: str) -> tuple[str, ...]:
    """All names of a fault, old and new, its own first: whichever of them a vendor uses,
    configuration may use any."""
    others = (_renamed(FORMER_NAMES, name), _renamed(_NEW_NAMES, name))
    return name, *(other for other in others if other is not None)


def _renamed(names: Mapping[str, str], name: str) -> str | None:
    vendor, dot, rest = name.partition(".")
    ending = names.get(dot + rest)
    return names.get(name) or (None if ending is None else vendor + ending)


def code_problem(code: str) -> str | None:
    """Why `code` is not a fault code, None where it is one.

    For the contract test: a fault with a badly formed code counts all the same.
    """
    if len(code) > MAX_CODE:
        return f"the code {code[:40]!r}… has more than {MAX_CODE} characters"
    if not _CODE.fullmatch(code):
        return f"the code {code!r} is not snake_case (small letters, digits, single underscores)"
    return None


def source_problem(vendor: str, source: str) -> str | None:
    """Why `source` is not a source of the vendor's faults, None where it is one."""
    owner, dot, part = source.partition(".")
    if owner != vendor:
        return f"the source {source[:60]!r} does not begin with {vendor + '.'!r}"
    if not dot or len(source) > MAX_SOURCE or not _PART.fullmatch(part):
        return f"the source {source[:60]!r} is not of the form {vendor}.<part>"
    return None
