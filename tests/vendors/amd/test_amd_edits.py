"""What a container gets: nodes, variables only where asked for, CDI from the same edits."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.vendors.amd.amd_nodes import NODES, offered, vendor_at

GPU, PARTITION = "mi300x-spx", "mi300x-cpx"


def test_a_container_gets_kfd_once_and_each_render_node(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES[PARTITION])
    edits = vendor.container_edits(offered(vendor.discover())[:2])
    assert [(n.path, n.host_path, n.permissions) for n in edits.device_nodes] == [
        ("/dev/kfd", "/dev/kfd", "rw"),
        ("/dev/dri/renderD128", "/dev/dri/renderD128", "rw"),
        ("/dev/dri/renderD129", "/dev/dri/renderD129", "rw"),
    ]
    assert (dict(edits.env), edits.mounts, edits.cdi_devices) == ({}, (), ())


@pytest.mark.parametrize(
    ("given", "variables"),
    [
        pytest.param(
            {"amd": {"hsa_override_gfx_version": "11.0.0", "rocm_path": "/opt/rocm"}},
            {"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "ROCM_PATH": "/opt/rocm"},
            id="versions",
        ),
        pytest.param(
            {"rocm": {"runtime": {"memory_pool": True}}},
            {"HIP_MEM_POOL_SUPPORT": "1", "ROCM_MEMORY_POOL": "true"},
            id="memory-pool",
        ),
        pytest.param(
            {"rocm": {"runtime": {"unified_memory": True}}},
            {"HSA_XNACK": "1", "ROCM_UNIFIED_MEMORY": "true"},
            id="unified-memory",
        ),
        pytest.param(
            {"rocm": {"version": "6.0", "features": ["x"], "libraries": ["rocBLAS 3.1"]}},
            {},
            id="descriptions-do-nothing",
        ),
    ],
)
def test_a_variable_is_set_where_the_configuration_asks(
    tmp_path: Path, given: dict[str, object], variables: dict[str, str]
) -> None:
    vendor = vendor_at(tmp_path, NODES[GPU], **given)
    assert vendor.container_edits(offered(vendor.discover())).env == variables


def test_page_migration_is_not_asked_of_a_gpu_that_cannot_do_it(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["guest-v620-vf"], rocm={"runtime": {"unified_memory": True}})
    edits = vendor.container_edits(offered(vendor.discover()))
    assert edits.env == {"ROCM_UNIFIED_MEMORY": "true"}


def test_a_virtual_machine_gets_no_variable_of_rocm(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-mi300x"], amd={"rocm_path": "/opt/rocm"})
    edits = vendor.container_edits(offered(vendor.discover()))
    assert list(edits.env) == ["PCI_RESOURCE_AMD_COM_MXGPU-192GB-VFIO"]


def test_cdi_has_every_gpu_for_containers_with_the_edits_of_an_allocation(tmp_path: Path) -> None:
    both = ["device-specs", "cdi-cri"]
    vendor = vendor_at(tmp_path, NODES["demo"], amd={"device_list_strategy": both})
    devices = vendor.discover().devices
    (spec,) = vendor.cdi_specs(devices)
    assert spec.kind == "k8s.device-plugin.amd.com/gpu"
    containers = [d for d in devices if d.resource and "vfio" not in d.resource]
    assert sorted(spec.devices) == sorted(d.id for d in containers)
    for device in containers:
        answer = vendor.container_edits([device])
        assert spec.devices[device.id] == replace(answer, cdi_devices=())


def test_a_node_without_gpus_for_containers_has_no_cdi_file(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["gim-v620"], amd={"device_list_strategy": ["cdi-cri"]})
    (spec,) = vendor.cdi_specs(vendor.discover().devices)
    assert spec.devices == {}


def test_without_a_cdi_strategy_there_is_no_cdi_file(tmp_path: Path) -> None:
    vendor = vendor_at(tmp_path, NODES["no-numa"])
    (spec,) = vendor.cdi_specs(vendor.discover().devices)
    assert spec.devices == {}


@pytest.mark.parametrize(
    ("strategies", "devices", "annotations"),
    [
        (["device-specs"], (), {}),
        (["device-specs", "cdi-cri"], ("k8s.device-plugin.amd.com/gpu=0000:63:00.0",), {}),
        (
            ["cdi-annotations"],
            (),
            {"cdi.k8s.io/amd_0000-63-00.0": "k8s.device-plugin.amd.com/gpu=0000:63:00.0"},
        ),
    ],
    ids=["device-specs", "cdi-cri", "cdi-annotations"],
)
def test_a_device_comes_by_its_nodes_or_by_its_cdi_name_as_asked_for(
    tmp_path: Path,
    strategies: list[str],
    devices: tuple[str, ...],
    annotations: dict[str, str],
) -> None:
    vendor = vendor_at(tmp_path, NODES["no-numa"], amd={"device_list_strategy": strategies})
    edits = vendor.container_edits(offered(vendor.discover()))
    assert (edits.cdi_devices, edits.annotations) == (devices, annotations)
    assert len(edits.device_nodes) == (2 if "device-specs" in strategies else 0)
