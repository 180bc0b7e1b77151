"""GFD's labels, held against the values that GFD itself wrote and documents."""

from pathlib import Path

import msgspec
import pytest

from deviceplugin.model import Device, DeviceID, frozen
from deviceplugin.resources.section import Rule
from deviceplugin.vendor.labels import LabelView
from deviceplugin.vendors.nvidia.labels import NodeFacts, clean, family, node_labels
from deviceplugin.vendors.nvidia.node_facts import parse_host_driver
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, h100_80gb, write_host_tree
from tests.fakes.nvml.model import Fabric
from tests.labels.nodes import gpu, recorded, vendor_labels
from tests.vendors.nvidia.conftest import MakeVendor, make_vendor

__all__ = ["make_vendor"]


def without_prefix(labels: dict[str, str]) -> dict[str, str]:
    assert labels.pop("nvidia.com/gfd.timestamp") == "1795332967"
    return {key.removeprefix("nvidia.com/"): value for key, value in labels.items()}


def test_a_recorded_h200_has_gfds_labels(tmp_path: Path) -> None:
    found = without_prefix(recorded("nvidia-h200-x1-580.159.04", "nvidia", tmp_path))
    assert found == {
        "cuda.driver-version.full": "580.159.04",
        "cuda.driver-version.major": "580",
        "cuda.driver-version.minor": "159",
        "cuda.driver-version.revision": "04",
        "cuda.driver.major": "580",
        "cuda.driver.minor": "159",
        "cuda.driver.rev": "04",
        "cuda.runtime-version.full": "13.0",
        "cuda.runtime-version.major": "13",
        "cuda.runtime-version.minor": "0",
        "cuda.runtime.major": "13",
        "cuda.runtime.minor": "0",
        "gpu.compute.major": "9",
        "gpu.compute.minor": "0",
        "gpu.count": "1",
        "gpu.family": "hopper",
        "gpu.machine": "unknown",
        "gpu.memory": "143771",
        "gpu.mode": "compute",
        "gpu.product": "NVIDIA-H200",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": "true",
        "mig.strategy": "mixed",
        "mps.capable": "false",
        "vgpu.present": "false",
    }


@pytest.fixture
def node(tmp_path: Path) -> NvmlDouble:
    """Four A100 in a DGX, of which GPU 3 is cut into MIG instances."""
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=tuple(map(a100_40gb, range(4)))))
    double.set_mig(3, ["3g.20gb", "1g.5gb", "1g.5gb+me"])
    write_host_tree(tmp_path, double.scenario)
    machine = tmp_path / "sys/class/dmi/id/product_name"
    machine.parent.mkdir(parents=True)
    machine.write_text("DGX A100 (920-23687)\n")
    return double


MIXED = {
    "cuda.runtime-version.full": "12.4",
    "cuda.runtime-version.major": "12",
    "cuda.runtime-version.minor": "4",
    "cuda.runtime.major": "12",
    "cuda.runtime.minor": "4",
    "gpu.machine": "DGX-A100-920-23687",
    "gpu.family": "ampere",
    "gpu.product": "NVIDIA-A100-SXM4-40GB",
    "gpu.count": "4",
    "gpu.replicas": "1",
    "mig.capable": "true",
    "mig.strategy": "mixed",
    "mig-1g.5gb.count": "1",
    "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
    "mig-1g.5gb.me.count": "1",
    "mig-1g.5gb.me.engines.decoder": "1",
    "mig-1g.5gb.multiprocessors": "14",
    "mig-1g.5gb.slices.gi": "1",
    "mig-1g.5gb.slices.ci": "1",
    "mig-1g.5gb.engines.copy": "1",
    "mig-1g.5gb.engines.encoder": "0",
    "mig-3g.20gb.multiprocessors": "42",
    "mig-3g.20gb.slices.gi": "3",
    "mig-3g.20gb.replicas": "1",
    "mig-3g.20gb.sharing-strategy": "none",
}


@pytest.mark.usefixtures("node")
def test_mig_devices_of_the_mixed_strategy_have_a_set_for_each_profile(
    make_vendor: MakeVendor,
) -> None:
    found = without_prefix(vendor_labels(make_vendor()))
    assert found | MIXED == found


def test_mig_devices_of_the_single_strategy_take_the_names_of_gpus(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    for index in range(4):
        node.set_mig(index, ["1g.5gb", "1g.5gb", "1g.5gb"])
    found = without_prefix(vendor_labels(make_vendor(nvidia={"mig_strategy": "single"})))
    expected = {
        "mig.strategy": "single",
        "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
        "gpu.count": "12",
        "gpu.memory": "4864",
        "gpu.multiprocessors": "14",
        "gpu.slices.gi": "1",
        "gpu.slices.ci": "1",
        "gpu.engines.copy": "1",
        "gpu.replicas": "1",
    }
    assert found | expected == found
    assert not [name for name in found if name.startswith("mig-")]


def test_mig_mode_without_instances_is_invalid(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    for index in range(4):
        node.set_mig(index, [])
    found = without_prefix(vendor_labels(make_vendor(nvidia={"mig_strategy": "single"})))
    expected = {
        "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID",
        "gpu.count": "0",
        "gpu.replicas": "0",
        "gpu.memory": "0",
        "gpu.sharing-strategy": "",
    }
    assert found | expected == found


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("offer", "product"),
    [
        ({"replicas": 3}, "NVIDIA-A100-SXM4-40GB-SHARED"),
        ({"replicas": 3, "name": "nvidia.com/gpu.shared"}, "NVIDIA-A100-SXM4-40GB"),
    ],
)
def test_a_shared_gpu_says_so_unless_its_resource_does(
    make_vendor: MakeVendor, offer: dict[str, object], product: str
) -> None:
    rules = [msgspec.convert({"offers": [offer]}, Rule)]
    found = without_prefix(vendor_labels(make_vendor(), rules))
    expected = {"gpu.replicas": "3", "gpu.sharing-strategy": "time-slicing", "gpu.product": product}
    assert found | expected == found


def test_gpus_of_one_fabric_have_its_clique(tmp_path: Path, make_vendor: MakeVendor) -> None:
    gpus = tuple(h100_80gb(index, fabric=Fabric(state=3, status=0)) for index in range(2))
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=gpus))
    write_host_tree(tmp_path, double.scenario)
    found = vendor_labels(make_vendor())
    clique = "7b968a6d-c8aa-45e1-9e07-e1e51be99c31.1"
    assert found["nvidia.com/gpu.clique"] == clique
    assert found["deviceplugin/link-domain"] == clique


def test_gpus_of_two_cliques_have_no_common_one() -> None:
    gpus = [gpu(n, attributes=frozen({"fabric_clique": f"a.{n}"})) for n in range(2)]
    found = node_labels(LabelView(devices=tuple(gpus)), NodeFacts(mig_strategy="none"))
    assert not [name for name in found if name.endswith(("clique", "link-domain"))]


def test_of_several_models_the_one_with_the_most_gpus_is_described() -> None:
    gpus = (gpu(0, "NVIDIA T4", 16), gpu(1), gpu(2))
    found = node_labels(LabelView(devices=gpus), NodeFacts(mig_strategy="none"))
    assert found["nvidia.com/gpu.product"] == "NVIDIA-H100"
    assert found["nvidia.com/gpu.count"] == "2"
    assert "nvidia.com/mig.strategy" not in found


def test_a_node_without_gpus_has_no_label() -> None:
    assert node_labels(LabelView(devices=()), NodeFacts(mig_strategy="mixed")) == {}


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("7.0", "volta"),
        ("7.5", "turing"),
        ("8.0", "ampere"),
        ("8.9", "ada-lovelace"),
        ("9.0", "hopper"),
        ("10.0", "blackwell"),
        ("12.0", "blackwell"),
        ("99.0", "undefined"),
    ],
)
def test_the_family_is_that_of_the_compute_capability(capability: str, name: str) -> None:
    assert family(capability) == name


def test_names_are_cleaned_as_gfd_does() -> None:
    assert clean("Tesla V100-SXM2-32GB (x)") == "Tesla-V100-SXM2-32GB-x"


# A configuration space with the capability of GFD's own sample.
SAMPLE = bytes.fromhex("0968 1b 5646".replace(" ", "")) + b"\x00\x16460.16\x00\x00\x00\x00r460_00"


def config_space(capability: bytes) -> bytes:
    space = bytearray(256)
    space[0x06], space[0x34] = 0x10, 0x60
    space[0x60 : 0x60 + len(capability)] = capability
    space[0x61] = 0
    return bytes(space)


def test_the_hosts_driver_of_a_vgpu_is_read_from_its_configuration_space() -> None:
    assert parse_host_driver(config_space(SAMPLE)) == ("460.16", "r460_00")


@pytest.mark.parametrize(
    "space",
    [
        b"",
        bytes(64),
        bytes(256),
        config_space(b"\x09\x00\x1b\x56\x46\x01\x00\x01\x00"),  # records of no length
        config_space(b"\x09\x60\x03"),
    ],
    ids=["none", "64-bytes", "no-list", "endless-records", "short"],
)
def test_any_other_configuration_space_has_none(space: bytes) -> None:
    assert parse_host_driver(space) is None


def test_a_list_of_capabilities_in_a_circle_ends() -> None:
    space = bytearray(config_space(b"\x01"))
    space[0x61] = 0x60
    assert parse_host_driver(bytes(space)) is None


def test_a_device_for_virtual_machines_has_no_gfd_label() -> None:
    vm = Device(id=DeviceID("v"), vendor="nvidia", attributes=frozen({"vgpu_kind": "mdev"}))
    assert node_labels(LabelView(devices=(vm,)), NodeFacts(mig_strategy="mixed")) == {}
