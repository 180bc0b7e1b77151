"""What a container gets, literally, and the CDI file."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deviceplugin.cdi.spec import document, file_name
from deviceplugin.errors import ConfigError
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceID
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia import edits
from deviceplugin.vendors.nvidia.mig import parse_mig_minors, profile_name, suffix_of
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from tests.fakes.nvml import NvmlDouble
from tests.vendors.nvidia.conftest import MakeVendor

GPU_1, GPU_2 = ("GPU-" + "-".join([d * 8, d * 4, d * 4, d * 4, d * 12]) for d in "12")
CONTROL = ["/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl"]
# What the CDI specification says of a file of version 0.5.0, in our words.
TEXT, PATH = {"type": "string", "minLength": 1}, {"type": "string", "pattern": "^/"}


def record(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


EDITS = record(
    [],
    env={"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}},
    deviceNodes={
        "type": "array",
        "items": record(
            ["path"],
            path=PATH,
            hostPath=PATH,
            permissions={"type": "string", "pattern": "^[rwm]+$"},
        ),
    },
    mounts={
        "type": "array",
        "items": record(
            ["hostPath", "containerPath"],
            hostPath=PATH,
            containerPath=PATH,
            options={"type": "array", "items": TEXT},
        ),
    },
    hooks={
        "type": "array",
        "items": record(
            ["hookName", "path"],
            hookName={"enum": ["createContainer"]},
            path=PATH,
            args={"type": "array", "items": TEXT},
        ),
    },
)
CDI_FILE = record(
    ["cdiVersion", "kind", "devices"],
    cdiVersion={"const": "0.5.0"},
    kind={"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z][A-Za-z0-9_-]*$"},
    containerEdits=EDITS,
    devices={
        "type": "array",
        "minItems": 1,
        "items": record(
            ["name", "containerEdits"],
            name={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]*$"},
            containerEdits=EDITS,
        ),
    },
)


def edits_for(vendor: Any, *ids: str) -> ContainerEdits:
    devices = {device.id: device for device in vendor.discover().devices}
    edits: ContainerEdits = vendor.container_edits([devices[i] for i in ids])
    return edits


def mig_id(vendor: Any, profile: str) -> str:
    return str(next(d.id for d in vendor.discover().devices if d.profile == profile))


def test_envvar_names_the_devices(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    edits = edits_for(make_vendor(), GPU_1, GPU_2)
    assert edits == ContainerEdits(env={"NVIDIA_VISIBLE_DEVICES": f"{GPU_1},{GPU_2}"})


def test_volume_mounts_name_the_devices_by_mounts(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    edits = edits_for(make_vendor(nvidia={"device_list_strategy": ["volume-mounts"]}), GPU_1)
    assert dict(edits.env) == {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"}
    assert [(m.host_path, m.path) for m in edits.mounts] == [
        ("/dev/null", f"/var/run/nvidia-container-devices/{GPU_1}")
    ]


def test_cdi_cri_names_qualified_devices_and_nothing_else(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    edits = edits_for(make_vendor(nvidia={"device_list_strategy": ["cdi-cri"]}), GPU_1, GPU_2)
    assert edits == ContainerEdits(
        cdi_devices=tuple(f"k8s.device-plugin.nvidia.com/gpu={i}" for i in (GPU_1, GPU_2))
    )


def test_cdi_annotations_join_the_names_under_a_key_made_of_the_request(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor(nvidia={"device_list_strategy": ["cdi-annotations"]})
    first, again = edits_for(vendor, GPU_1, GPU_2), edits_for(vendor, GPU_1, GPU_2)
    ((key, value),) = first.annotations.items()
    assert re.fullmatch(r"cdi\.k8s\.io/nvidia-device-plugin_[0-9a-f-]{36}", key)
    assert value == ",".join(f"k8s.device-plugin.nvidia.com/gpu={i}" for i in (GPU_1, GPU_2))
    assert again == first
    assert edits_for(vendor, GPU_1).annotations.keys() != first.annotations.keys()


def test_all_strategies_together_are_their_union_with_the_mounts_value(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    strategies = ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]
    edits = edits_for(make_vendor(nvidia={"device_list_strategy": strategies}), GPU_1)
    assert dict(edits.env) == {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"}
    assert len(edits.mounts) == len(edits.annotations) == len(edits.cdi_devices) == 1


def test_device_specs_are_the_control_nodes_and_the_gpus_own(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    edits = edits_for(make_vendor(nvidia={"pass_device_specs": True}), GPU_1, GPU_2)
    assert sorted(n.path for n in edits.device_nodes) == sorted(
        [*CONTROL, "/dev/nvidia1", "/dev/nvidia2"]
    )
    assert {n.permissions for n in edits.device_nodes} == {"rw"}


def test_device_specs_of_a_mig_instance_have_the_parent_and_both_capabilities(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    vendor = make_vendor(nvidia={"pass_device_specs": True})
    instance = next(d for d in vendor.discover().devices if d.profile == "3g.20gb")
    gi = instance.attributes["gpu_instance"]
    minors = parse_mig_minors((tmp_path / "proc/driver/nvidia-caps/mig-minors").read_text())
    expected = [minors[f"gpu3/gi{gi}/access"], minors[f"gpu3/gi{gi}/ci0/access"]]
    nodes = {n.path for n in edits_for(vendor, instance.id).device_nodes}
    assert nodes == {
        *CONTROL,
        "/dev/nvidia3",
        *(f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in expected),
    }


def test_device_specs_are_left_to_cdi_where_every_strategy_is_cdi(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    section = {"device_list_strategy": ["cdi-cri"], "pass_device_specs": True}
    assert edits_for(make_vendor(nvidia=section), GPU_1).device_nodes == ()


def test_the_index_strategy_speaks_in_indices(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    vendor = make_vendor(nvidia={"device_id_strategy": "index"})
    assert edits_for(vendor, GPU_1).env["NVIDIA_VISIBLE_DEVICES"] == "1"
    part = mig_id(vendor, "1g.5gb")
    assert edits_for(vendor, part).env["NVIDIA_VISIBLE_DEVICES"] == "3:1"


@pytest.mark.parametrize("hook", [None, "/usr/bin/nvidia-ctk", "/usr/bin/nvidia-cdi-hook"])
def test_the_cdi_file_is_valid_and_whole(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path, hook: str | None
) -> None:
    write_tree(tmp_path, f"{hook} = #!" if hook else "")
    vendor = make_vendor(nvidia={"device_list_strategy": ["cdi-cri"], "cdi_hook_path": hook})
    spec, *_ = vendor.cdi_specs(vendor.discover().devices)
    content = json.loads(document(spec))
    jsonschema.validate(content, CDI_FILE)
    assert file_name(spec.kind) == "k8s.device-plugin.nvidia.com-gpu.json"
    named = {d["name"]: d["containerEdits"]["deviceNodes"] for d in content["devices"]}
    assert len(named) == 3 + 3
    assert [n["path"] for n in named[GPU_1]] == ["/dev/nvidia1"]
    common = content["containerEdits"]
    assert common["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert [n["path"] for n in common["deviceNodes"]] == CONTROL
    inside = {m["containerPath"]: m["hostPath"] for m in common["mounts"]}
    assert inside["/usr/lib64/libcuda.so.1"] == "/usr/lib64/libcuda.so.550.163.01"
    assert "/usr/bin/nvidia-smi" in inside
    assert ("hooks" in common) == (hook is not None)


def test_the_hook_is_called_by_its_own_name(
    node: NvmlDouble, make_vendor: MakeVendor, tmp_path: Path
) -> None:
    write_tree(tmp_path, "/opt/bin/nvidia-ctk = #!")
    section = {"device_list_strategy": ["cdi-cri"], "cdi_hook_path": "/opt/bin/nvidia-ctk"}
    vendor = make_vendor(nvidia=section)
    spec, *_ = vendor.cdi_specs(vendor.discover().devices)
    (hook,) = spec.common.hooks
    assert hook.args == ("nvidia-ctk", "hook", "update-ldcache", "--folder", "/usr/lib64")


def test_without_a_cdi_strategy_there_is_no_cdi_file(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor()
    spec, *_ = vendor.cdi_specs(vendor.discover().devices)
    assert spec == CdiSpec(kind="k8s.device-plugin.nvidia.com/gpu", devices={})


@pytest.mark.parametrize(
    ("total_mib", "part_mib", "slices", "name"),
    [
        (40326, 4864, (1, 1), "1g.5gb"),
        (81251, 9856, (1, 1), "1g.10gb"),
        (81251, 19968, (1, 1), "1g.20gb"),
        (95830, 11008, (1, 1), "1g.12gb"),
        (143771, 16384, (1, 1), "1g.18gb"),
        (143771, 70000, (3, 3), "3g.71gb"),
        (183359, 22500, (1, 1), "1g.23gb"),
        (40326, 19968, (3, 1), "1c.3g.20gb"),
    ],
)
def test_profile_names_are_nvidias(
    total_mib: int, part_mib: int, slices: tuple[int, int], name: str
) -> None:
    assert profile_name(total_bytes=total_mib << 20, memory_mib=part_mib, slices=slices) == name


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("MIG 1g.5gb+me", "+me"),
        ("1g.24gb+me.all", "+me.all"),
        ("1g.24gb-me", "-me"),
        ("MIG 3g.20gb", ""),
        ("", ""),
    ],
)
def test_the_suffix_of_an_unknown_profile_comes_from_the_drivers_own_name(
    name: str, suffix: str
) -> None:
    assert suffix_of(name) == suffix


@pytest.mark.parametrize(
    "section",
    [
        {"device_list_strategy": []},
        {"cdi_annotation_prefix": "no-slash"},
        {"mig_strategy": "mixd"},
        {"device_list_strategy": "envvar"},
        {"typo": 1},
    ],
)
def test_a_bad_section_is_one_error_that_names_the_key(
    make_vendor: MakeVendor, section: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_vendor(nvidia=section)
    assert caught.value.key.startswith("nvidia")
    assert "\n" not in str(caught.value)


def test_nodes_of_a_driver_root_are_below_dev_inside_whatever_was_discovered_since() -> None:
    root = "/run/nvidia/driver"
    nodes = (f"{root}/dev/nvidia-caps/nvidia-cap3", f"{root}/dev/nvidia0")
    device = Device(id=DeviceID("GPU-1"), vendor="nvidia", nodes=nodes)
    settings = NvidiaSection(device_list_strategy=("envvar",), pass_device_specs=True)
    found = edits.container_edits(settings, [device])
    assert [(n.path, n.host_path) for n in found.device_nodes] == [
        ("/dev/nvidia-caps/nvidia-cap3", nodes[0]),
        ("/dev/nvidia0", nodes[1]),
    ]
