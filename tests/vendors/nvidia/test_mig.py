"""The names of MIG profiles, and what no GPU can be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.model import Place
from deviceplugin.vendors.nvidia.mig import (
    MigInstance,
    capability_nodes,
    parse_mig_minors,
    place_of,
    read_mig_minors,
    resource_suffix,
)
from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import GiProfile, Gpu
from tests.provision.products import PRODUCTS, product
from tests.vendors.nvidia.conftest import MakeVendor

INSTANCE = MigInstance(
    uuid="MIG-1",
    index=0,
    gpu_instance=3,
    compute_instance=1,
    profile="1c.3g.20gb",
    memory_mib=19968,
    multiprocessors=14,
)


@pytest.mark.parametrize("name", PRODUCTS)
def test_where_instances_can_be_follows_from_their_sizes(name: str) -> None:
    whole = product(name)
    assert whole.mig is not None
    total = max(one.size for one in whole.mig.profiles)
    memory = max(one.memory_bytes or 0 for one in whole.mig.profiles) + (total << 20)
    for one in whole.mig.profiles:
        compute = int(one.name.partition("g.")[0])
        instance = replace(
            INSTANCE,
            profile=one.name,
            memory_mib=(one.memory_bytes or 0) >> 20,
            slices=(compute, compute),
            place=(one.id, one.starts[-1], one.size),
        )
        found = place_of(instance, memory)
        assert found == Place(
            slices=total, start=one.starts[-1], size=one.size, starts=tuple(one.starts)
        )


def test_a_part_of_an_instance_has_no_place_of_its_own() -> None:
    assert place_of(replace(INSTANCE, slices=(3, 1), place=(9, 0, 4)), 40 << 30) is None


def relabelled(index: int, name: str) -> Callable[[Gpu], Gpu]:
    """The GPU with its profile 1g.5gb at another place of NVML's table, and by another name."""

    def one(profile: GiProfile) -> GiProfile:
        return replace(profile, index=index, name=name) if profile.index == 0 else profile

    def all_of(gpu: Gpu) -> Gpu:
        others = [p for p in gpu.gi_profiles if p.index != index]
        return replace(gpu, gi_profiles=tuple(map(one, others)))

    return all_of


# nvml.h, NVML_GPU_INSTANCE_PROFILE_*: 1, 2, 3, 4, 7, 8 and 6 slices, then those with a suffix.
@pytest.mark.parametrize(
    ("index", "suffix"),
    [
        *((index, "") for index in (1, 2, 3, 4, 5, 6, 9)),
        *((7, "+me"), (8, "+me"), (13, "-me"), (14, "-me"), (15, "+me.all"), (16, "+me.all")),
        *((10, "+gfx"), (11, "+gfx"), (12, "+gfx"), (17, "+gfx")),
    ],
)
def test_the_place_of_a_profile_in_nvmls_table_decides_its_suffix(
    node: NvmlDouble, make_vendor: MakeVendor, index: int, suffix: str
) -> None:
    node.set_mig(3, ["1g.5gb"])
    node.update_gpu(3, relabelled(index, "1g.5gb+wrong"))
    profiles = {device.profile for device in make_vendor().discover().devices if device.parent}
    assert profiles == {f"1g.5gb{suffix}"}


@pytest.mark.parametrize("index", [18, 31])
def test_a_profile_that_is_not_in_the_table_has_the_suffix_that_the_driver_names(
    node: NvmlDouble, make_vendor: MakeVendor, index: int
) -> None:
    node.set_mig(3, ["1g.5gb"])
    node.update_gpu(3, relabelled(index, "1g.5gb+new"))
    profiles = {device.profile for device in make_vendor().discover().devices if device.parent}
    assert profiles == {"1g.5gb+new"}


def test_a_gpu_in_mig_mode_without_memory_is_a_fault_of_that_gpu_alone(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.update_gpu(3, lambda gpu: replace(gpu, memory_total_bytes=0))
    found = make_vendor().discover()
    assert len([device for device in found.devices if device.resource == "nvidia.com/gpu"]) == 3
    (fault,) = [
        fault for fault in found.faults if fault.device.endswith("3") or "MIG" in fault.reason
    ]
    assert "no memory for a GPU in MIG mode" in fault.reason


@pytest.mark.parametrize("slices", [0, 2], ids=["none", "more than the GPU instance has"])
def test_an_instance_of_impossible_slices_is_a_fault_of_its_gpu_alone(
    node: NvmlDouble, make_vendor: MakeVendor, slices: int
) -> None:
    def cut(gpu: Gpu) -> Gpu:
        return replace(gpu, mig=tuple(replace(one, ci_slices=slices) for one in gpu.mig))

    node.set_mig(3, ["1g.5gb"])
    node.update_gpu(3, cut)
    found = make_vendor().discover()
    assert len([device for device in found.devices if device.resource == "nvidia.com/gpu"]) == 3
    assert [fault for fault in found.faults if f"(1, {slices}) slices and" in fault.reason]


def test_the_nodes_of_an_instance_are_keyed_by_the_gpus_minor() -> None:
    minors = parse_mig_minors("gpu5/gi3/access 30\ngpu5/gi3/ci1/access 31\ngpu0/gi3/access 1\nbad")
    assert capability_nodes(minors, 5, INSTANCE) == (
        "/dev/nvidia-caps/nvidia-cap30",
        "/dev/nvidia-caps/nvidia-cap31",
    )
    assert capability_nodes(minors, 0, INSTANCE) == ()


def test_lines_that_are_no_minors_are_skipped() -> None:
    text = "gpu0/gi1/access 12\nconfig\nmonitor x\ntoo many words\n"
    assert parse_mig_minors(text) == {"gpu0/gi1/access": 12}


def test_a_node_without_the_file_has_no_minors(tmp_path: Path) -> None:
    assert read_mig_minors(Host(tmp_path)) == {}


def test_a_plus_is_no_character_of_a_resource_name() -> None:
    assert resource_suffix("1g.5gb+me.all") == "mig-1g.5gb.me.all"
    assert resource_suffix("1g.5gb-me") == "mig-1g.5gb-me"
