"""Files of layouts: ours, mig-parted's and the Device Config Manager's; and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.config.layouts import read_layouts
from deviceplugin.config.load import load
from deviceplugin.config.schema import decode
from deviceplugin.errors import ConfigError
from deviceplugin.provision.section import (
    Layout,
    Layouts,
    Selector,
    VirtualFunctions,
    wanted_of,
)

MIG_PARTED = """
version: v1
mig-configs:
  all-disabled:
    - devices: all
      mig-enabled: false
  mixed:
    - device-filter: ["0x233510DE", "0x233B10DE"]
      devices: [0, 2]
      mig-enabled: true
      mig-devices:
        "1g.18gb": 2
        "3g.71gb": 1
    - device-filter: "0x20B710DE"
      devices: all
      mig-enabled: true
"""
DCM = {
    "gpu-config-profiles": {
        "two": {
            "skippedGPUs": {"ids": [1]},
            "profiles": [
                {"computePartition": "CPX", "memoryPartition": "NPS4", "numGPUsAssigned": 2},
                {"computePartition": "SPX", "numGPUsAssigned": 1},
            ],
        }
    },
    "gpuClientSystemdServices": {"names": ["amd-metrics-exporter"]},
}


def file(folder: Path, text: str, name: str = "layouts.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_of_mig_parted_is_read_as_it_is(tmp_path: Path) -> None:
    path = file(tmp_path, MIG_PARTED)
    assert read_layouts(path, "all-disabled") == (Layout(select=NVIDIA, none=True),)
    first, second = read_layouts(path, "mixed")
    assert first.mig == {"1g.18gb": 2, "3g.71gb": 1}
    assert first.select.index == (0, 2)
    assert first.select.device == ("0x233510DE", "0x233B10DE")
    assert (second.mig, second.select.device) == ({}, ("0x20B710DE",))


NVIDIA = Selector(vendor="nvidia")


def test_a_file_of_the_device_config_manager_is_read_as_it_is(tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps(DCM), "config.json")
    first, second = read_layouts(path, "two")
    assert (first.select.index, first.compute, first.memory) == ((0, 2), "CPX", "NPS4")
    assert (second.select.index, second.compute, second.memory) == ((3,), "SPX", None)


@pytest.mark.parametrize("name", [None, "nothing"])
def test_an_entry_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, name: str | None
) -> None:
    with pytest.raises(ConfigError, match=r"--layout.*one of the file's mig-configs: all-disabled"):
        read_layouts(file(tmp_path, MIG_PARTED), name)


def test_our_own_file_has_one_layout_for_each_selector(tmp_path: Path) -> None:
    text = "partitions:\n- select: {product: H200}\n  mig: {1g.18gb: 7}\n- none: true\n"
    first, second = read_layouts(file(tmp_path, text), None)
    assert (first.mig, second.none) == ({"1g.18gb": 7}, True)
    with pytest.raises(ConfigError, match="no name"):
        read_layouts(file(tmp_path, text), "first")
    with pytest.raises(ConfigError, match="--layouts"):
        read_layouts(None, None)
    with pytest.raises(ConfigError, match=r"--layouts.*absent\.yaml"):
        read_layouts(str(tmp_path / "absent.yaml"), None)


LISTS = """
mig:
  provision: true
  instances:
    - {name: mig-1g.5gb, memory: 5GiB, compute_units: 14, tensor_cores: 1, count: 2}
    - {name: mig-1g.5gb.me, memory: 5GiB}
    - {name: mig-3g.20gb, memory: 20GiB}
mxgpu: {provision: true, instances: [{name: mxgpu-4gb, memory: 4GiB, count: 8}]}
intel_xe: {provision: true, instances: [{name: xe-4gb, memory: 4GiB}]}
"""
LISTED = (
    Layout(select=NVIDIA, mig={"1g.5gb": 2, "1g.5gb+me": 1, "3g.20gb": 1}),
    Layout(
        select=Selector(vendor="amd"),
        virtual_functions=VirtualFunctions(count=8, memory="4GiB"),
    ),
    Layout(
        select=Selector(vendor="intel"),
        virtual_functions=VirtualFunctions(count=1, memory="4GiB"),
    ),
)


def wanted_by(path: str) -> tuple[Layout, ...]:
    return wanted_of(load({"config": path, "node_name": "node-1"})[0].sections).layouts


def test_lists_of_instances_with_provision_are_layouts(tmp_path: Path) -> None:
    path = file(tmp_path, LISTS)
    assert wanted_by(path) == LISTED
    assert tuple(read_layouts(path, None)) == LISTED


def test_layouts_of_partitions_come_before_what_is_listed(tmp_path: Path) -> None:
    own = "partitions: [{select: {index: [0]}, none: true}]\n"
    first, *others = wanted_by(file(tmp_path, own + LISTS))
    assert first.none
    assert tuple(others) == LISTED


@pytest.mark.parametrize("switch", ["provision: false", "enabled: false"])
def test_a_list_makes_nothing_that_is_not_asked_to(switch: str, tmp_path: Path) -> None:
    one = "instances: [{name: mig-1g.5gb, memory: 5GiB}]"
    on = "" if "provision" in switch else "provision: true, "
    assert wanted_by(file(tmp_path, f"mig: {{{on}{switch}, {one}}}")) == ()


def test_what_is_wrong_with_a_list_is_told_by_its_own_key(tmp_path: Path) -> None:
    text = "mig: {provision: true, instances: [{name: mig-1g.5gb}]}"
    with pytest.raises(ConfigError, match=r"mig\.instances\[0\]\.memory") as raised:
        read_layouts(file(tmp_path, text), None)
    assert "partitions" not in str(raised.value)


WRONG: list[tuple[Any, str]] = [
    ({"partitions": [{}]}, "one of mig, compute and memory, virtual_functions, none"),
    ({"partitions": [{"mig": {"1g.5gb": 1}, "compute": "CPX"}]}, "one of mig"),
    ({"partitions": [{"mig": {"1g.5gb": -1}}]}, r"mig.*a number from 0 to 64 each"),
    ({"partitions": [{"mig": {"1g.5gb": "lots"}}]}, r"mig.*lots.*a number from 0 to 64 each"),
    ({"partitions": [{"compute": "XPX"}]}, "XPX"),
    ({"partitions": [{"virtual_functions": {"count": 2, "memory": "none"}}]}, "memory"),
    ({"partitions": [{"virtual_functions": {"count": 2, "compute": "0%"}}]}, "from 1% to 100%"),
    ({"partitions": [{"virtual_functions": {"count": 2, "compute": "2.5%"}}]}, "from 1% to 100%"),
    (
        {"partitions": [{"virtual_functions": {"count": 3, "compute": "34%"}}]},
        "compute: '34%'.*expected 33% or less: 3 × 34% is more than 100%",
    ),
    (
        {"partitions": [{"virtual_functions": {"count": 101, "compute": "1%"}}]},
        "expected no such key: 101 × 1% is more than 100%",
    ),
    ({"partitions": [{"select": {"indices": 1}, "none": True}]}, "indices"),
    (
        {"partitions": [{"select": {"vendor": "amd"}, "on_demand": True}]},
        "of NVIDIA's MIG alone: give the GPUs of amd a layout",
    ),
    ({"partitions": [{"virtual_functions": {"count": 2, "driver": "nvidia"}}]}, "vfio-pci"),
    ({"layouts": []}, "layouts"),
]


@pytest.mark.parametrize(("raw", "word"), WRONG)
def test_a_layout_that_is_wrong_is_refused_by_its_key(raw: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        decode(raw, Layouts, "layouts")
