"""Slices as they come, go and go wrong at run time."""

import errno
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.host import MAX_FILE_BYTES
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.intel import (
    B60,
    FLEX_170,
    INTEGRATED,
    IntelGpu,
    set_vfs,
    vf_address,
    write_intel_node,
)
from deviceplugin.testing.tree import remove, write_tree
from tests.vendors.intel.conftest import Codes, FindDevice, MakeVendor, Offered

SPLIT = ["xe"] * 4 + ["vfio-pci"] * 2
QUOTA = 4227858432
EXAMPLE = [
    {"name": "xe-4gb", "memory": "4GiB", "compute_units": 64, "execution_units": 32},
    {"name": "xe-8gb", "memory": "8GiB", "compute_units": 128, "execution_units": 64},
]


class BrokenHost(Host):
    """A host on which reading one file fails as the kernel lets it."""

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        """Fail for files of virtual function 1's profile, as tiles that disagree do."""
        if host_path.endswith(("vf1/profile/vram_quota", "vf1/gt1/lmem_quota")):
            raise DiscoveryError(f"{host_path}: {os.strerror(errno.EUCLEAN)}")
        return super().read_bytes(host_path, size)


@pytest.fixture
def node(root: Path) -> Path:
    """A host with one whole B60."""
    write_intel_node(root, B60)
    return root


def test_a_function_that_only_its_owner_knows_of_is_one_device(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 2, QUOTA)
    remove(node, f"/sys/bus/pci/devices/{vf_address(B60, 1)}/physfn")
    found = make_vendor().discover()
    assert sorted(device.id for device in found.devices) == [
        B60.address,
        vf_address(B60, 1),
        vf_address(B60, 2),
    ]
    assert offered(found) == {"intel.com/xe-4gb": 2}


def test_dividing_a_gpu_and_making_it_whole_moves_the_resources_each_time(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    vendor = make_vendor()
    for _ in range(4):
        assert offered(vendor.discover()) == {"intel.com/gpu": 1}
        set_vfs(node, B60, 6, QUOTA, SPLIT)
        divided = vendor.discover()
        assert offered(divided) == {"intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2}
        assert divided.faults == ()
        set_vfs(node, B60, 3, 8455716864)
        assert offered(vendor.discover()) == {"intel.com/xe-8gb": 3}
        set_vfs(node, B60, 0)
    assert offered(vendor.discover()) == {"intel.com/gpu": 1}


def test_ids_stay_when_the_cards_get_other_numbers(root: Path, make_vendor: MakeVendor) -> None:
    vendor = make_vendor()
    write_intel_node(root, B60)
    set_vfs(root, B60, 2, QUOTA)
    before = {d.id: d.nodes for d in vendor.discover().devices}
    moved = replace(B60, card=5, render=140)
    set_vfs(root, B60, 0)
    for name in ("card1", "renderD128"):
        (root / f"sys/devices/pci0000:00/{B60.address}/drm/{name}/dev").unlink()
        (root / f"sys/devices/pci0000:00/{B60.address}/drm/{name}").rmdir()
    write_intel_node(root, moved)
    set_vfs(root, moved, 2, QUOTA)
    after = {d.id: d.nodes for d in vendor.discover().devices}
    assert before.keys() == after.keys()
    assert before != after


def test_functions_past_the_eighth_have_their_own_addresses(
    root: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    write_intel_node(root, FLEX_170)
    set_vfs(root, FLEX_170, 16, 1048576000)
    assert vf_address(FLEX_170, 8) == "0000:3a:01.0"
    discovery = make_vendor().discover()
    assert offered(discovery) == {"intel.com/xe-1gb": 16}
    assert {d.attributes["vf_index"] for d in discovery.devices if d.parent} == set(
        map(str, range(1, 17))
    )


@pytest.mark.parametrize(
    ("gpu", "count", "quota", "name"),
    [
        (FLEX_170, 4, 3548381184, "intel.com/xe-3gb"),
        (FLEX_170, 4, 0, "intel.com/xe-4gb"),
        (B60, 6, 0, "intel.com/xe-4gb"),
        (B60, 1, 25367150592, "intel.com/xe-24gb"),
        (B60, 12, 2113929216, "intel.com/xe-2gb"),
    ],
    ids=["ECC", "i915 provisions by itself", "xe provisions by itself", "one", "twelve"],
)
def test_a_slice_is_named_by_its_size(
    gpu: IntelGpu,
    count: int,
    quota: int,
    name: str,
    root: Path,
    make_vendor: MakeVendor,
    offered: Offered,
) -> None:
    write_intel_node(root, gpu)
    set_vfs(root, gpu, count, quota)
    assert offered(make_vendor().discover()) == {name: count}


def test_the_physical_functions_spare_is_not_shared(
    root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = replace(B60, quotas="none")
    write_intel_node(root, gpu)
    set_vfs(root, gpu, 6)
    base = f"/sys/kernel/debug/dri/{gpu.address}"
    write_tree(root, f"{base}/sriov/pf/tile0/vram_spare = {6 << 30}")
    write_tree(root, f"{base}/tile0/vram_mm = use_type: 1\\nsize: {24 << 30}\\nusage: 4096")
    function = device(make_vendor().discover(), "0000:04:00.1")
    assert function.memory_bytes == 3 << 30
    assert function.attributes["memory_source"] == "share of debugfs"


def test_two_sizes_on_one_gpu_are_two_resources(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 3, [QUOTA, QUOTA, 2 * QUOTA])
    assert offered(make_vendor().discover()) == {"intel.com/xe-4gb": 2, "intel.com/xe-8gb": 1}


@pytest.mark.parametrize("driver", ["vfio-pci", "xe-vfio-pci"])
def test_every_vfio_driver_serves_virtual_machines(
    driver: str, node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 6, QUOTA, [driver] * 6)
    assert offered(make_vendor().discover()) == {"intel.com/xe-4gb-vfio": 6}


def test_functions_without_a_driver_are_counted_and_the_gpu_stays_hidden(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 6, QUOTA, [None] * 6)
    discovery = make_vendor().discover()
    (fault,) = discovery.faults
    assert offered(discovery) == {}
    assert (fault.device, fault.source) == (B60.address, "intel.sriov")
    assert fault.reason.startswith("6 of 6 ")
    assert not fault.kind.withdraws


def test_a_vfio_function_without_its_group_node_is_a_fault_and_not_given(
    node: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    set_vfs(node, B60, 6, QUOTA, SPLIT)
    (node / "dev/vfio/41").unlink()
    discovery = make_vendor().discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 1}
    assert codes(discovery) == [("0000:04:00.5", "vfio_node_missing")]
    assert "/dev/vfio/41" in discovery.faults[0].reason


def test_a_vfio_function_without_an_iommu_is_not_given(
    node: Path, make_vendor: MakeVendor, codes: Codes
) -> None:
    set_vfs(node, B60, 1, QUOTA, ["vfio-pci"])
    (node / "sys/bus/pci/devices/0000:04:00.1/iommu_group").unlink()
    assert codes(make_vendor().discover()) == [("0000:04:00.1", "no_iommu_group")]


def test_functions_that_share_an_iommu_group_are_given_away_together(
    node: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    set_vfs(node, B60, 3, QUOTA, ["vfio-pci"] * 3)
    path = "/sys/devices/pci0000:00/0000:04:00.2"
    write_tree(node, f"{path}/iommu_group -> ../../../kernel/iommu_groups/37")
    vendor = make_vendor()
    discovery = vendor.discover()
    first, part = device(discovery, "0000:04:00.1"), device(discovery, "0000:04:00.2")
    assert first.resource == "intel.com/xe-4gb-vfio"
    assert part.resource is None
    assert part.attributes["allocated_with"] == first.id
    edits = vendor.container_edits([first])
    assert edits.env == {"PCI_RESOURCE_INTEL_COM_XE-4GB-VFIO": "0000:04:00.1,0000:04:00.2"}
    assert [n.path for n in edits.device_nodes] == ["/dev/vfio/vfio", "/dev/vfio/37"]
    assert contract_problems(vendor, Host(node)) == []


def test_a_shared_group_is_named_by_its_smallest_function(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 2, [2 * QUOTA, QUOTA], ["vfio-pci"] * 2)
    path = "/sys/devices/pci0000:00/0000:04:00.2"
    write_tree(node, f"{path}/iommu_group -> ../../../kernel/iommu_groups/37")
    assert offered(make_vendor().discover()) == {"intel.com/xe-4gb-vfio": 1}


def test_a_group_that_the_host_still_uses_is_not_given(
    node: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    set_vfs(node, B60, 2, QUOTA, ["xe", "vfio-pci"])
    path = "/sys/devices/pci0000:00/0000:04:00.2"
    write_tree(node, f"{path}/iommu_group -> ../../../kernel/iommu_groups/37")
    write_tree(node, "/dev/vfio/37 c 240:37")
    discovery = make_vendor().discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 1}
    assert codes(discovery) == [("0000:04:00.2", "iommu_group_in_use")]


@pytest.mark.parametrize(
    ("driver", "given"),
    [
        ("pcieport", True),
        ("pci-stub", True),
        ("vfio-pci", True),
        (None, True),
        ("snd_hda_intel", False),
        ("i915", False),
    ],
)
def test_a_group_may_have_what_the_kernel_leaves_in_it(
    node: Path,
    make_vendor: MakeVendor,
    offered: Offered,
    codes: Codes,
    driver: str | None,
    given: bool,
) -> None:
    set_vfs(node, B60, 1, QUOTA, ["vfio-pci"])
    other = "/sys/bus/pci/devices/0000:00:1c.0"
    lines = [f"{other}/{name} = {value}" for name, value in (("vendor", 1), ("device", 2))]
    lines += [f"{other}/class = 0x060400", "/sys/kernel/iommu_groups/37/devices/0000:00:1c.0/"]
    lines += [f"{other}/driver -> ../../../bus/pci/drivers/{driver}"] if driver else []
    write_tree(node, "\n".join([*lines, "/dev/vfio/37 c 240:37"]))
    discovery = make_vendor().discover()
    assert offered(discovery) == ({"intel.com/xe-4gb-vfio": 1} if given else {})
    refused = [] if given else [("0000:04:00.1", "iommu_group_in_use")]
    assert codes(discovery) == refused


def test_a_quota_that_cannot_be_read_costs_that_source_only(
    node: Path, make_vendor: MakeVendor, offered: Offered, device: FindDevice
) -> None:
    set_vfs(node, B60, 6, QUOTA, SPLIT)
    discovery = make_vendor(host=BrokenHost(node)).discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 4, "intel.com/xe-4gb-vfio": 2}
    (fault,) = discovery.faults
    assert (fault.device, fault.source) == ("0000:04:00.1", "intel.memory")
    assert "sriov_admin/vf1/profile/vram_quota" in fault.reason
    assert device(discovery, "0000:04:00.1").attributes["memory_source"] == "share of table"


def test_half_of_a_two_tile_quota_is_never_taken_for_the_whole(
    make_vendor: MakeVendor, root: Path, offered: Offered
) -> None:
    discovery = make_vendor("max1550-4vf", host=BrokenHost(root)).discover()
    assert offered(discovery) == {"intel.com/xe-30gb": 3, "intel.com/xe-32gb": 1}


def test_an_unreadable_gpu_is_seen_faulted_and_costs_no_other(
    node: Path, make_vendor: MakeVendor, offered: Offered, device: FindDevice, codes: Codes
) -> None:
    write_intel_node(node, replace(INTEGRATED, render=150))
    write_tree(node, f"/sys/devices/pci0000:00/{B60.address}/sriov_numvfs = broken")
    discovery = make_vendor().discover()
    assert offered(discovery) == {"intel.com/gpu": 1}
    assert codes(discovery) == [(B60.address, "unreadable")]
    assert device(discovery, B60.address).resource is None


def test_slices_of_an_unreadable_gpu_are_faulted_not_guessed(
    node: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    set_vfs(node, B60, 2, QUOTA)
    write_tree(node, f"/sys/devices/pci0000:00/{B60.address}/sriov_numvfs = broken")
    discovery = make_vendor().discover()
    assert offered(discovery) == {}
    assert {code for _, code in codes(discovery)} == {"unreadable"}
    assert len(discovery.devices) == 3


def test_a_slice_of_unknown_size_is_not_offered(
    root: Path, make_vendor: MakeVendor, offered: Offered, codes: Codes
) -> None:
    gpu = replace(B60, device_id=0xE2FF, quotas="none", bar_bytes=None)
    write_intel_node(root, gpu)
    set_vfs(root, gpu, 1)
    discovery = make_vendor().discover()
    assert offered(discovery) == {}
    assert codes(discovery) == [("0000:04:00.1", "size_unknown")]


def test_the_list_of_instances_names_slices_and_leaves_others_out(
    node: Path, make_vendor: MakeVendor, offered: Offered, device: FindDevice, codes: Codes
) -> None:
    set_vfs(node, B60, 3, [QUOTA, 2 * QUOTA, 3 * QUOTA])
    asked = {"instances": EXAMPLE, "scheduling": {"isolation": "hardware"}}
    discovery = make_vendor(intel_xe=asked).discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 1, "intel.com/xe-8gb": 1}
    assert device(discovery, "0000:04:00.1").least_isolation == "hardware"
    assert codes(discovery) == [("0000:04:00.3", "size_not_listed")]
    assert device(discovery, "0000:04:00.1").attributes["execution_units"] == "32"


def test_a_pinned_name_may_differ_from_the_size(
    root: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    write_intel_node(root, FLEX_170)
    set_vfs(root, FLEX_170, 4, 3548381184, ["i915"] * 3 + ["vfio-pci"])
    pinned = [{"name": "xe-4gb", "memory": "3384MiB"}]
    discovery = make_vendor(intel_xe={"instances": pinned}).discover()
    assert offered(discovery) == {"intel.com/xe-4gb": 3, "intel.com/xe-4gb-vfio": 1}


def test_slices_carry_the_policy_of_their_section(
    node: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    set_vfs(node, B60, 6, QUOTA, SPLIT)
    vendor = make_vendor(intel_xe={"scheduling": {"policy": "fair_share"}})
    policies = {d.policy for d in vendor.discover().devices if d.resource}
    assert policies == {"fair_share"}


def test_slices_that_are_turned_off_are_seen_but_not_offered(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    set_vfs(node, B60, 6, QUOTA, SPLIT)
    discovery = make_vendor(intel_xe={"enabled": False}).discover()
    assert offered(discovery) == {}
    assert len(discovery.devices) == 7
    assert discovery.faults == ()


def test_a_size_that_only_the_slices_own_driver_tells_is_used(
    root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = replace(B60, quotas="none")
    write_intel_node(root, gpu)
    set_vfs(root, gpu, 2)
    asked: list[tuple[str, str]] = []

    def query(driver: str, node: str) -> int | None:
        asked.append((driver, node))
        return QUOTA if node == "/dev/dri/card2" else None

    discovery = make_vendor(query=query).discover()
    assert device(discovery, "0000:04:00.1").attributes["memory_source"] == "ioctl"
    assert device(discovery, "0000:04:00.2").attributes["memory_source"] == "share of table"
    assert ("xe", "/dev/dri/card2") in asked


def test_a_gpu_is_hidden_from_the_moment_its_functions_are_enabled(
    node: Path, make_vendor: MakeVendor, offered: Offered
) -> None:
    write_tree(node, f"/sys/devices/pci0000:00/{B60.address}/sriov_numvfs = 6")
    assert offered(make_vendor().discover()) == {}


def test_a_media_gt_without_a_quota_takes_nothing_from_the_sum(
    root: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = replace(B60, quotas="debugfs-gt")
    write_intel_node(root, gpu)
    set_vfs(root, gpu, 6, QUOTA)
    write_tree(root, f"/sys/kernel/debug/dri/{gpu.address}/gt1/vf1/ggtt_quota = 4096")
    function = device(make_vendor().discover(), "0000:04:00.1")
    assert (function.memory_bytes, function.attributes["memory_source"]) == (QUOTA, "debugfs")


def test_slices_of_a_gpu_without_a_card_are_found_too(
    node: Path, make_vendor: MakeVendor, device: FindDevice
) -> None:
    set_vfs(node, B60, 2, 0)
    remove(node, f"/sys/devices/pci0000:00/{B60.address}/drm")
    function = device(make_vendor().discover(), "0000:04:00.1")
    assert function.attributes["memory_source"] == "share of table"
