"""Compute partitions: naming, liveness, memory, and switching in a running tree."""

from pathlib import Path

import pytest

from deviceplugin.host.drm import DrmNodes
from deviceplugin.host.pci import PciFunction
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import FaultClass
from deviceplugin.resources.plan import plan_resources
from deviceplugin.testing.amd import DEMO_GPUS, SimulatedGpu, amd_tree, switch_mode
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors import amd
from deviceplugin.vendors.amd.gpus import AmdGpu
from deviceplugin.vendors.amd.links import RENEWED_LOOKS
from deviceplugin.vendors.amd.partitions import partition_profile
from tests.vendors.amd.amd_nodes import NODES, Denied, look, mi300x, offered, vendor_at

INHERITED = ("driver", "unique_id", "compute_partition", "memory_partition")
MIXED = {"resource_naming": "mixed"}
MODE = "/sys/devices/pci0000:40/0000:05:00.0/current_compute_partition"


@pytest.mark.parametrize("node", ["mi300x-cpx", "mi300x-cpx-dotted"])
def test_both_spellings_of_the_platform_devices_give_eight_partitions(
    tmp_path: Path, node: str
) -> None:
    found = look(tmp_path, NODES[node], amd=MIXED)
    parent, *partitions = found.devices
    assert (parent.id, parent.resource) == ("amd-e3aa140f9a5f9e31", None)
    assert [d.id for d in partitions] == [f"{parent.id}-p{n}" for n in range(8)]
    assert {d.resource for d in partitions} == {"amd.com/cpx_nps4"}
    assert {d.parent for d in partitions} == {parent.id}
    assert [d.nodes[1] for d in partitions] == [f"/dev/dri/renderD{128 + n}" for n in range(8)]
    assert {d.attributes["compute_units"] for d in partitions} == {"38"}


def test_card_nodes_are_those_of_the_platform_device(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["mi300x-cpx"], amd={"card_nodes": True})
    assert [d.nodes[2] for d in offered(found)] == [f"/dev/dri/card{n}" for n in range(1, 9)]


def test_a_partition_has_the_memory_of_its_bank_rounded_to_its_class(tmp_path: Path) -> None:
    partitions = offered(look(tmp_path, NODES["mi300x-cpx"]))
    assert [d.memory_bytes for d in partitions] == [25769803776] * 7 + [25753026560]
    assert {d.attributes["size_class"] for d in partitions} == {"24gb"}
    assert {d.attributes["memory_source"] for d in partitions} == {"kfd"}


def test_mi308x_partitions_are_of_48_gb_in_both_domains(tmp_path: Path) -> None:
    partitions = offered(look(tmp_path, NODES["mi308x-cpx"], amd=MIXED), "amd.com/cpx_nps4")
    assert [d.pci_address for d in partitions] == ["0000:0a:00.0"] * 4 + ["0001:0b:00.0"] * 4
    assert [d.memory_bytes for d in partitions] == ([51539607552] * 3 + [51522830336]) * 2
    assert {d.attributes["size_class"] for d in partitions} == {"48gb"}


def test_without_a_bank_a_partition_has_an_equal_share(tmp_path: Path) -> None:
    text = NODES["mi300x-cpx"].replace("size_in_bytes", "nothing")
    partition = offered(look(tmp_path, text))[0]
    assert partition.memory_bytes == 206141652992 // 8
    assert partition.attributes["memory_source"] == "mem_info_vram_total/8"


@pytest.mark.parametrize(
    ("naming", "names"),
    [
        ("single", {"amd.com/gpu": 9}),
        ("mixed", {"amd.com/gpu": 1, "amd.com/cpx_nps4": 8}),
    ],
)
def test_a_heterogeneous_node_works_in_both_namings(
    tmp_path: Path, naming: str, names: dict[str, int]
) -> None:
    found = look(tmp_path, amd_tree(DEMO_GPUS), amd={"resource_naming": naming})
    store = InventoryStore(lambda: 0.0)
    store.set_devices("amd", found.devices)
    plan = plan_resources(store.current)
    assert {name: len(resource.devices) for name, resource in plan.resources.items()} == names


def test_a_rule_finds_a_partition_by_its_gpu_and_number(tmp_path: Path) -> None:
    found = look(tmp_path, NODES["mi300x-cpx"])
    parts = [d for d in found.devices if d.parent is not None]
    assert [d.ordinal for d in parts][:3] == ["0:0", "0:1", "0:2"]
    assert {d.architecture for d in parts} == {"gfx942"}


def test_partitions_inherit_the_numa_node(tmp_path: Path) -> None:
    found = look(tmp_path, amd_tree(DEMO_GPUS))
    assert [d.numa_node for d in offered(found)] == [0] + [1] * 8


def test_an_unknown_numa_node_keeps_all_partitions(tmp_path: Path) -> None:
    found = look(tmp_path, amd_tree([mi300x(numa_node=-1)]))
    assert [d.numa_node for d in offered(found)] == [None] * 8


@pytest.mark.parametrize("mode", ["DPX", "QPX"])
def test_every_mode_names_its_partitions(tmp_path: Path, mode: str) -> None:
    found = look(tmp_path, amd_tree([mi300x(mode=mode, memory_mode="NPS1")]), amd=MIXED)
    assert {d.resource for d in offered(found)} == {f"amd.com/{mode.lower()}_nps1"}
    assert found.faults == ()


def test_a_partition_without_a_drm_minor_is_reported_on_its_gpu(tmp_path: Path) -> None:
    found = look(tmp_path, amd_tree([mi300x(dead=frozenset({7}))]))
    assert len(offered(found)) == 7
    (fault,) = found.faults
    assert (fault.device, fault.kind) == ("amd-e3aa140f9a5f9e31", FaultClass.INFO)
    assert "7 of 8 partitions live, without 7" in fault.reason


def test_switching_cpx_to_spx_turns_eight_devices_into_one_and_back(tmp_path: Path) -> None:
    gpus: tuple[SimulatedGpu, ...] = (mi300x(),)
    vendor = vendor_at(tmp_path, amd_tree(gpus))
    before = offered(vendor.discover())
    gpus = switch_mode(tmp_path, gpus, "0000:05:00.0", "SPX")
    whole = offered(vendor.discover())
    switch_mode(tmp_path, gpus, "0000:05:00.0", "CPX")
    assert [d.id for d in whole] == ["amd-e3aa140f9a5f9e31"]
    assert offered(vendor.discover()) == before
    assert len(before) == 8


def test_a_mode_that_is_being_switched_costs_that_gpu(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, amd_tree(DEMO_GPUS))
    write_tree(tmp_path, f"{MODE} = UNKNOWN")
    found = vendor.discover()
    assert len(offered(found)) == 8
    (fault,) = found.faults
    assert (fault.device, fault.code) == ("amd-e3aa140f9a5f9e31", "mode_unknown")
    assert "current_compute_partition: 'UNKNOWN'" in fault.reason


def test_a_mode_that_fails_to_be_read_costs_that_gpu_and_names_the_file(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi300x-cpx"])
    found = amd.create(Denied(tmp_path, ["current_compute_partition"]), {}).discover()
    assert offered(found) == []
    assert "current_compute_partition: Operation not permitted" in found.faults[0].reason


def test_a_mode_that_fails_on_a_gpu_without_modes_costs_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi210-x8"])
    found = amd.create(Denied(tmp_path, ["current_compute_partition"]), {}).discover()
    assert len(offered(found)) == 8
    assert found.faults == ()


def test_spx_with_several_kfd_nodes_is_not_believed(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    write_tree(tmp_path, f"{MODE} = SPX")
    found = vendor.discover()
    assert offered(found) == []
    assert "says SPX, KFD has 8 nodes" in found.faults[0].reason


def test_partitions_that_kfd_denies_are_not_offered_and_the_files_named(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi300x-cpx"])
    found = amd.create(Denied(tmp_path, ["nodes/3/properties"]), {}).discover()
    assert [d.index for d in offered(found)] == [0, 1, 3, 4, 5, 6, 7]
    (fault,) = found.faults
    assert (fault.code, fault.kind) == ("no_kfd_node", FaultClass.WARN)
    assert "without 2: /sys/class/kfd/kfd/topology/nodes/3/properties" in fault.reason


def test_a_drm_link_that_cannot_be_read_costs_that_partition(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi300x-cpx"])
    found = amd.create(Denied(tmp_path, ["renderD130/device"]), {}).discover()
    assert len(offered(found)) == 7
    assert "renderD130/device: Operation not permitted" in found.faults[0].reason


def test_a_memory_mode_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    write_tree(tmp_path, NODES["mi300x-cpx"])
    found = amd.create(Denied(tmp_path, ["current_memory_partition"]), {}).discover()
    assert len(offered(found, "amd.com/gpu")) == 8
    assert "memory_partition" not in found.devices[0].attributes


def test_a_partition_of_an_unlisted_model_without_a_bank_has_no_size(tmp_path: Path) -> None:
    text = NODES["mi300x-cpx"].replace("size_in_bytes", "nothing").replace("0x74a1", "0x7fff")
    partitions = offered(look(tmp_path, text))
    assert len(partitions) == 8
    assert {d.memory_bytes for d in partitions} == {None}
    assert "size_class" not in partitions[0].attributes


def test_without_kfd_no_partition_is_offered(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    remove(tmp_path, "/sys/devices/virtual/kfd")
    found = vendor.discover()
    assert offered(found) == []
    assert [f.code for f in found.faults] == ["no_kfd_node"]


def test_a_minor_that_another_device_owns_costs_that_partition(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    path = "/sys/devices/platform/amdgpu_xcp_2/drm/renderD131/device"
    write_tree(tmp_path, f"{path} -> ../../../vgem")
    found = vendor.discover()
    assert len(offered(found)) == 7
    assert "renderD131/device: is vgem" in found.faults[0].reason


def test_a_missing_memory_mode_costs_a_name_only_where_the_name_needs_it(tmp_path: Path) -> None:
    text = NODES["mi300x-cpx"].replace("current_memory_partition = NPS4", "nothing = 0")
    assert len(offered(look(tmp_path, text))) == 8
    found = look(tmp_path, text, amd=MIXED)
    assert offered(found) == []
    assert len(found.faults) == 8


def test_a_missing_render_node_costs_that_partition(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])
    remove(tmp_path, "/dev/dri/renderD133")
    found = vendor.discover()
    assert len(offered(found)) == 7
    assert found.faults[0].reason == "device node /dev/dri/renderD133 does not exist"


def test_a_node_of_many_dies_is_not_taken_for_a_partition_of_one(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, amd_tree([mi300x(mode="SPX")]))
    write_tree(tmp_path, f"{MODE} = CPX")
    found = vendor.discover()
    assert offered(found) == []
    assert "num_xcc 8 in mode CPX" in found.faults[0].reason


def test_equal_buses_of_two_domains_are_kept_apart(tmp_path: Path) -> None:
    gpus = [
        mi300x(address=f"{domain}:05:00.0", unique_id=f"e3aa140f9a5f9e3{n}")
        for n, domain in enumerate(("0000", "0001"))
    ]
    found = look(tmp_path, amd_tree(gpus))
    assert len({d.nodes for d in offered(found)}) == len(offered(found)) == 16
    assert found.faults == ()


def test_links_are_read_again_when_kfd_changes_and_every_twelfth_look(tmp_path: Path) -> None:
    """A link that changes without a new generation is not what the kernel is known to do."""
    vendor = vendor_at(tmp_path, NODES["mi300x-cpx"])

    def weights() -> set[int | None]:
        return {link.weight for device in vendor.discover().devices for link in device.links}

    assert weights() == {13}
    reweigh(tmp_path, 13, 15)
    assert [weights() for _ in range(RENEWED_LOOKS - 1)] == [{13}] * (RENEWED_LOOKS - 1)
    assert weights() == {15}
    reweigh(tmp_path, 15, 41)
    write_tree(tmp_path, "/sys/class/kfd/kfd/topology/generation_id = 2")
    assert weights() == {41}


def reweigh(root: Path, old: int, new: int) -> None:
    for path in (root / "sys/devices/virtual/kfd").rglob("io_links/*/properties"):
        path.write_text(path.read_text().replace(f"weight {old}", f"weight {new}"))


def test_a_partition_shows_both_modes_of_its_gpu(tmp_path: Path) -> None:
    for part in offered(look(tmp_path, NODES["mi300x-cpx"])):
        inherited = {key: part.attributes[key] for key in INHERITED}
        assert inherited == {
            "driver": "amdgpu",
            "unique_id": "e3aa140f9a5f9e31",
            "compute_partition": "CPX",
            "memory_partition": "NPS4",
        }


@pytest.mark.parametrize(
    ("compute", "memory", "profile"),
    [("CPX", "NPS4", "cpx_nps4"), (None, "NPS4", None), ("CPX", None, None), (None, None, None)],
)
def test_a_profile_needs_both_modes(
    compute: str | None, memory: str | None, profile: str | None
) -> None:
    gpu = AmdGpu(
        function=PciFunction(
            address="0000:05:00.0",
            vendor_id=0x1002,
            device_id=0x74A1,
            class_id=0x120000,
            driver="amdgpu",
            numa_node=None,
        ),
        nodes=DrmNodes(),
        compute_mode=compute,
        memory_mode=memory,
    )
    assert partition_profile(gpu) == profile
