"""What several vendors report is one thing to a person: one code, one class, the same source."""

from collections.abc import Sequence

import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.faults import FORMER_NAMES, code_problem, source_problem
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendors.amd import faults as amd
from deviceplugin.vendors.intel import faults as intel
from deviceplugin.vendors.nvidia import devices as nvidia

ID = DeviceID("0000:03:00.0")
NVIDIA = Device(id=ID, vendor="nvidia")
SAME: dict[str, tuple[FaultClass, Sequence[Fault]]] = {
    "discovery/unreadable": (
        FaultClass.HARDWARE,
        [amd.unreadable(ID, DiscoveryError("/a: no")), intel.unreadable_device(ID, "/a: no")],
    ),
    "discovery/node_missing": (
        FaultClass.SETUP,
        [
            amd.missing_node(ID, "/dev/a"),
            intel.missing_node(ID, ["/dev/a"]),
            nvidia.node_missing(NVIDIA, "/dev/a"),
        ],
    ),
    "discovery/not_bound": (
        FaultClass.INFO,
        [amd.not_bound(ID, None), intel.unused_driver(ID, None)],
    ),
    "sriov/size_unknown": (FaultClass.WARN, [amd.size_unknown(ID), intel.unknown_size(ID)]),
    "sriov/size_not_listed": (
        FaultClass.INFO,
        [amd.not_listed(ID, "4gb"), intel.not_listed(ID, "xe-4gb")],
    ),
    "vfio/vfio_node_missing": (
        FaultClass.SETUP,
        [amd.vfio_node_missing(ID, "/dev/a"), intel.vfio_missing(ID, ["/dev/a"])],
    ),
    "vfio/no_iommu_group": (FaultClass.SETUP, [amd.no_iommu_group(ID, "/a"), intel.no_iommu(ID)]),
    "vfio/iommu_group_in_use": (
        FaultClass.SETUP,
        [amd.group_in_use(ID, "group 7"), intel.group_in_use(ID, "7", ["0000:03:00.1"])],
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_one_thing_has_one_name_and_class_with_every_vendor(name: str) -> None:
    kind, found = SAME[name]
    for fault in found:
        vendor, _, part = fault.source.partition(".")
        assert (f"{part}/{fault.code}", fault.kind) == (name, kind)
        assert source_problem(vendor, fault.source) is None
        assert code_problem(fault.code) is None
        assert fault.reason
        assert fault.action


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ("amd.vfio/no_iommu_group", "amd.sriov/vf-not-usable"),
        ("amd.vfio/vfio_node_missing", "amd.discovery/missing-node"),
        ("intel.discovery/unreadable", "intel.discovery/unreadable_device"),
        ("nvidia.discovery/node_missing", "nvidia.layout/node_missing"),
    ],
)
def test_a_name_that_changed_keeps_its_former_one(now: str, before: str) -> None:
    assert FORMER_NAMES[now] == before
