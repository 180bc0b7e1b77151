"""What containers get beside NVIDIA GPUs: GDS, MOFED, GDRCopy and the IMEX channel."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cdi.spec import document, file_name
from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.model import ContainerEdits, FaultClass
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors import nvidia
from tests.fakes.nvml import NvmlDouble
from tests.vendors.nvidia.conftest import MakeVendor

CHANNEL = "/dev/nvidia-caps-imex-channels/channel0"
NODES = f"""
{CHANNEL} c 234:0
/dev/gdrdrv c 235:0
/dev/nvidia-fs0 c 236:0
/dev/nvidia-fs1 c 236:1
/dev/infiniband/rdma_cm c 10:58
/dev/infiniband/uverbs0 c 231:192
/dev/infiniband/issm0 c 231:64
/usr/lib64/libcuda.so.550.163.01 = x
"""
ALL: dict[str, Any] = {"gds": True, "mofed": True, "gdrcopy": True, "imex_channels": [0]}
VARIABLES = dict.fromkeys(("NVIDIA_GDRCOPY", "NVIDIA_GDS", "NVIDIA_MOFED"), "enabled")
KIND = "k8s.device-plugin.nvidia.com"
NAMES = tuple(f"{KIND}/{n}" for n in ("imex-channel=0", "gdrcopy=all", "gds=all", "mofed=all"))


@pytest.fixture
def root(node: NvmlDouble, tmp_path: Path) -> Path:
    write_tree(tmp_path, NODES)
    return tmp_path


def given(vendor: Any) -> ContainerEdits:
    edits: ContainerEdits = vendor.container_edits(vendor.discover().devices[:1])
    return edits


def test_nothing_is_given_that_nobody_asks_for(root: Path, make_vendor: MakeVendor) -> None:
    vendor = make_vendor()
    edits = given(vendor)
    assert edits.env.keys() == {"NVIDIA_VISIBLE_DEVICES"}
    assert vendor.discover().faults == ()
    assert [spec for spec in vendor.cdi_specs(vendor.discover().devices) if spec.devices] == []


def test_envvar_has_the_variables_of_nvidias_plugin(root: Path, make_vendor: MakeVendor) -> None:
    edits = given(make_vendor(nvidia=ALL | {"device_list_strategy": ["envvar"]}))
    others = {k: v for k, v in edits.env.items() if k != "NVIDIA_VISIBLE_DEVICES"}
    assert others == VARIABLES | {"NVIDIA_IMEX_CHANNELS": "0"}
    assert (edits.device_nodes, edits.mounts, edits.cdi_devices) == ((), (), ())


def test_device_specs_have_their_nodes_too(root: Path, make_vendor: MakeVendor) -> None:
    """A cgroup that the CPU manager writes again has no other nodes than those of the answer."""
    asked = ALL | {"device_list_strategy": ["envvar"], "pass_device_specs": True}
    nodes = {node.path for node in given(make_vendor(nvidia=asked)).device_nodes}
    assert {CHANNEL, "/dev/gdrdrv", "/dev/nvidia-fs0", "/dev/nvidia-fs1"} <= nodes
    assert {"/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs0"} <= nodes
    assert "/dev/infiniband/issm0" not in nodes


def test_volume_mounts_have_the_channel_as_a_mount(root: Path, make_vendor: MakeVendor) -> None:
    edits = given(make_vendor(nvidia=ALL | {"device_list_strategy": ["volume-mounts"]}))
    assert "/var/run/nvidia-container-devices/imex/0" in [m.path for m in edits.mounts]
    assert "NVIDIA_IMEX_CHANNELS" not in edits.env


@pytest.mark.parametrize("strategy", ["cdi-cri", "cdi-annotations"])
def test_cdi_names_come_after_those_of_the_gpus(
    root: Path, make_vendor: MakeVendor, strategy: str
) -> None:
    edits = given(make_vendor(nvidia=ALL | {"device_list_strategy": [strategy]}))
    names = edits.cdi_devices or tuple(",".join(edits.annotations.values()).split(","))
    assert names[0].startswith(f"{KIND}/gpu=GPU-")
    assert names[1:] == NAMES
    assert dict(edits.env) == VARIABLES


def test_each_kind_is_a_cdi_file_with_its_nodes(root: Path, make_vendor: MakeVendor) -> None:
    write_tree(root, "/run/udev/\n/etc/cufile.json = {}")
    vendor = make_vendor(nvidia=ALL | {"device_list_strategy": ["cdi-cri"]})
    specs = vendor.cdi_specs(vendor.discover().devices)
    files = {file_name(spec.kind): json.loads(document(spec)) for spec in specs}
    kinds = ("gpu", "imex-channel", "gdrcopy", "gds", "mofed")
    assert files.keys() == {f"k8s.device-plugin.nvidia.com-{kind}.json" for kind in kinds}
    (gds,) = files[f"{KIND}-gds.json"]["devices"]
    assert gds["name"] == "all"
    nodes = [node["path"] for node in gds["containerEdits"]["deviceNodes"]]
    assert nodes == ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]
    mounts = [mount["containerPath"] for mount in gds["containerEdits"]["mounts"]]
    assert mounts == ["/run/udev", "/etc/cufile.json"]


def test_nodes_of_a_driver_root_come_from_there(root: Path, make_vendor: MakeVendor) -> None:
    write_tree(root, "/run/nvidia/driver/dev/gdrdrv c 235:0")
    asked = {"gdrcopy": True, "device_list_strategy": ["envvar"], "pass_device_specs": True}
    edits = given(make_vendor(nvidia=asked | {"dev_root": "/run/nvidia/driver"}))
    found = {node.path: node.host_path for node in edits.device_nodes}
    assert found["/dev/gdrdrv"] == "/run/nvidia/driver/dev/gdrdrv"


@pytest.mark.parametrize(
    ("key", "path", "code"),
    [
        ("gds", "/dev/nvidia-fs*", "gds_missing"),
        ("mofed", "/dev/infiniband/rdma_cm", "mofed_missing"),
        ("gdrcopy", "/dev/gdrdrv", "gdrcopy_missing"),
        ("imex_channels", CHANNEL, "imex_channel_missing"),
    ],
    ids=lambda value: value if "/" not in value else "",
)
def test_what_is_absent_is_reported_and_left_out(
    node: NvmlDouble, make_vendor: MakeVendor, key: str, path: str, code: str
) -> None:
    """A CDI name without a file would keep the container from its start."""
    vendor = make_vendor(nvidia={key: ALL[key], "device_list_strategy": ["cdi-cri"]})
    found = vendor.discover()
    offered = {device.id for device in found.devices if device.resource}
    told = [fault for fault in found.faults if fault.source == "nvidia.extras"]
    assert {fault.device for fault in told} == offered
    assert {(fault.code, fault.kind) for fault in told} == {(code, FaultClass.WARN)}
    assert path in told[0].reason
    edits = vendor.container_edits(found.devices[:1])
    assert (len(edits.cdi_devices), dict(edits.env)) == (1, {})


def test_gpus_are_not_given_without_a_channel_that_is_required(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    vendor = make_vendor(nvidia={"imex_channels": [0], "imex_required": True})
    (kind,) = {fault.kind for fault in vendor.discover().faults}
    assert kind is FaultClass.SETUP
    write_tree(tmp_path, f"{CHANNEL} c 234:0")
    assert not vendor.unchanged()
    assert vendor.discover().faults == ()
    remove(tmp_path, CHANNEL)
    assert not vendor.unchanged()


def test_a_device_tells_what_is_beside_it(root: Path, make_vendor: MakeVendor) -> None:
    """CDI files and kept answers are made again when devices change."""
    vendor = make_vendor(nvidia={"gds": True})
    before = vendor.discover().devices[0].attributes["extras"]
    assert before == "gds (/dev/nvidia-fs0, /dev/nvidia-fs1)"
    remove(root, "/dev/nvidia-fs1")
    assert vendor.discover().devices[0].attributes["extras"] == "gds (/dev/nvidia-fs0)"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"imex_channels": [1]}, r"imex_channels\[0\]"),
        ({"imex_required": True}, r"imex_channels: \[0\]"),
        ({"gds": "enabled"}, "nvidia.gds"),
    ],
    ids=["another channel", "required, none asked for", "no word of NVIDIA's"],
)
def test_what_cannot_be_meant_is_refused(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        decode_sections({"nvidia": section}, nvidia.SECTIONS)
