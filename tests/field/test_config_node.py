"""A fleet has one file: what is absent on one node is said there, and is never an error."""

import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin.cli.tables import report_text
from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.daemon.rules import UnusedRulesPart
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Inventory
from deviceplugin.resources.methods import absent_programs
from deviceplugin.resources.plan import sharing_of
from deviceplugin.resources.report import report
from deviceplugin.resources.unused import unused_document, unused_rules
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.resources.builders import gpu, instance, inventory
from tests.rig import GPU, Rig, run_command

MPS = """
version: v1
flags:
  migStrategy: none
sharing:
  mps:
    resources:
    - name: nvidia.com/gpu
      replicas: 4
"""
POLARIS = r"""
/dev/kfd c 511:0
/sys/class/kfd/kfd/topology/generation_id = 2
/sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties = heap_type 1\nsize_in_bytes 8589934592
/sys/bus/pci/devices/0000:01:00.0/vendor = 0x1002
/sys/bus/pci/devices/0000:01:00.0/device = 0x67df
/sys/bus/pci/devices/0000:01:00.0/class = 0x030000
/sys/bus/pci/devices/0000:01:00.0/numa_node = -1
/sys/bus/pci/devices/0000:01:00.0/driver -> ../../../bus/pci/drivers/amdgpu
/sys/bus/pci/devices/0000:01:00.0/mem_info_vram_total = 8589934592
/sys/bus/pci/devices/0000:01:00.0/drm/renderD128/
/sys/bus/pci/devices/0000:01:00.0/drm/card0/
/sys/class/drm/renderD128/device -> ../../../bus/pci/devices/0000:01:00.0
/dev/dri/renderD128 c 226:128
/dev/dri/card0 c 226:0
"""
NODES = "/sys/class/kfd/kfd/topology/nodes"
CPU = ("cpu_cores_count 16", "simd_count 0", "drm_render_minor 0")
GFX8 = ("simd_count 144", "simd_per_cu 4", "gfx_target_version 80003", "location_id 256")
KFD = {0: CPU, 1: (*GFX8, "domain 0", "drm_render_minor 128")}
A100 = inventory(gpu(0))
AMD = inventory(gpu(0, vendor="amd", resource="amd.com/gpu"))


def config_of(tmp_path: Path, text: str, **flags: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load({"config": str(path), **flags})[0]


def program(host_root: Path) -> None:
    """MPS' control program where the driver has it; it makes its socket's file, and then does
    nothing for a long time."""
    path = host_root / "usr/bin/nvidia-cuda-mps-control"
    path.parent.mkdir(parents=True, exist_ok=True)
    socket = ': >"$CUDA_MPS_PIPE_DIRECTORY/control"'
    path.write_text(f"#!/bin/sh\n{socket}\n[ $# -gt 0 ] && exec sleep 600\nexit 0\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_file_is_right_or_wrong_whatever_node_it_is_judged_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, MPS, host_root=str(tmp_path))
    sharing = sharing_of(config.sections)
    (line,) = absent_programs(sharing, Host(tmp_path), config.sections)
    assert line.startswith("sharing: mps: there is no program nvidia-cuda-mps-control at /usr/bin")
    program(tmp_path)
    assert absent_programs(sharing, Host(tmp_path), config.sections) == ()


@pytest.mark.slow
async def test_a_rule_for_mps_costs_a_node_without_nvidia_nothing(rig: Rig) -> None:
    write_tree(rig.host_root, POLARIS)
    for number, lines in KFD.items():
        write_tree(rig.host_root, f"{NODES}/{number}/properties = " + r"\n".join(lines))
    config = str(rig.config(MPS))
    await rig.stub.start()
    daemon = rig.start("--config", config)
    await rig.capacity({"amd.com/gpu": 1})
    assert run_command("check", "--config", config).returncode == 0
    line = await daemon.wait_event("rule_without_devices", rule="sharing.mps.resources[0]")
    assert (line["level"], line["reason"]) == ("info", "fits no device of this node")
    checked = run_command("check", "--node", "--config", config, "--host-root", str(rig.host_root))
    assert checked.returncode == 0
    remarks = [x for x in checked.stderr.splitlines() if x.startswith("on this node: ")]
    assert remarks[0].startswith("on this node: sharing: mps: there is no program")
    assert remarks[1] == "on this node: sharing.mps.resources[0]: fits no device of this node"
    assert checked.stderr.endswith("configuration is valid\n")


@pytest.mark.slow
async def test_devices_wait_for_the_program_of_mps_and_are_served_once_it_is_there(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(MPS)))
    await rig.stub.wait_registered(GPU)
    assert rig.stub.allocatable() == {GPU: 0}
    fault = await daemon.wait_event("fault", code="mps_not_ready")
    assert "there is no program nvidia-cuda-mps-control at " in fault["reason"]
    program(rig.host_root)
    await rig.allocatable({GPU: 24})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "rules: [{match: {product: 'A100*'}, offers: [exclude]}]",
            "rules[0] fits no device of this node",
        ),
        (
            (
                "version: v1\nsharing: {timeSlicing: {resources:"
                " [{name: nvidia.com/gpu, replicas: 2, devices: ['1']}]}}"
            ),
            "sharing.timeSlicing.resources[0] fits no device of this node",
        ),
        (
            (
                "version: v1\nsharing: {timeSlicing: {resources:"
                " [{name: nvidia.com/gpu.shared, replicas: 2}]}}"
            ),
            "sharing.timeSlicing.resources[0] fits no device of this node",
        ),
        (
            "version: v1\nresources: {gpus: [{pattern: T4*, name: t4}]}",
            "resources.gpus[0] fits no device of this node",
        ),
        (
            "rules: [{offers: [whole]}, {label: mine, offers: [exclude]}]",
            "mine does nothing: earlier rules decide about each device that it fits",
        ),
        (
            "rules: [{match: {profile: '*'}, offers: [exclude]}]",
            "rules[0] fits no device of this node",
        ),
        (
            (
                "rules: [{offers: [whole]}, {label: mine, match: {profile: x}, offers: [exclude]},"
                " {label: mine, offers: [exclude]},"
                " {label: mine, match: {profile: y}, offers: [whole]}]"
            ),
            "mine does nothing: earlier rules decide about each device that it fits",
        ),
        (
            "rules: [{match: {vendor: ['nv*', amd], index: 9}, offers: [exclude]}]",
            "rules[0] fits no device of this node",
        ),
    ],
)
def test_an_entry_that_fits_no_device_has_one_line(tmp_path: Path, text: str, line: str) -> None:
    rules = sharing_of(config_of(tmp_path, text).sections).rules
    assert [str(unused) for unused in unused_rules(A100, rules)] == [line]
    assert not unused_rules(A100, rules)[0].expected


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{match: {product: '*A100*'}, offers: [exclude]}]",
        "rules: [{match: {index: 0}, offers: [exclude]}, {offers: [{replicas: 2}], count: 1}]",
        (
            "version: v1\nresources: {gpus: [{pattern: '*', name: big}]}\n"
            "sharing: {timeSlicing: {resources: [{name: big, replicas: 2}]}}"
        ),
        (
            "version: v1\nsharing: {timeSlicing: {resources:"
            " [{name: gpu, replicas: 2, devices: ['0', '7', GPU-9]}]}}"
        ),
    ],
)
def test_an_entry_that_fits_a_device_has_none(tmp_path: Path, text: str) -> None:
    rules = sharing_of(config_of(tmp_path, text).sections).rules
    assert unused_rules(inventory(gpu(0), gpu(1)), rules) == ()


def test_hiding_a_parent_is_no_idle_rule(tmp_path: Path) -> None:
    parent = gpu(0, resource=None)
    rules = sharing_of(
        config_of(tmp_path, "rules: [{match: {index: 0}, offers: [exclude]}]").sections
    )
    assert unused_rules(inventory(parent, instance(parent, 0)), rules.rules) == ()


def logged(rules: str, tmp_path: Path, *found: Inventory) -> list[tuple[str, str]]:
    """Level and rule of each line, the devices being those of one inventory after the other."""
    sharing = sharing_of(config_of(tmp_path, rules).sections)
    store = InventoryStore(lambda: 0.0)
    part = UnusedRulesPart(store, lambda: sharing.rules, lambda: True)
    with capture_logs() as events:
        for one in found:
            store.latest.set(one)
            part._compare()
    return [(event["log_level"], event["rule"]) for event in events]


def test_an_idle_rule_is_logged_once_and_again_when_it_is_idle_again(tmp_path: Path) -> None:
    rule = "rules: [{match: {vendor: nvidia, index: 1}, offers: [exclude]}]"
    both = inventory(gpu(0), gpu(1))
    assert logged(rule, tmp_path, A100, A100, both, A100) == [("warning", "rules[0]")] * 2


def test_discover_has_a_line_for_each_idle_rule(tmp_path: Path) -> None:
    text = "rules: [{match: {index: 8}, offers: [whole]}]"
    sharing = sharing_of(config_of(tmp_path, text).sections)
    unused = unused_document(A100, sharing.rules)
    shown = report("node-1", A100, sharing.plan(A100)) | {"unused_rules": unused}
    assert report_text(shown).endswith("\n\nrules[0] fits no device of this node\n")


def test_the_notice_for_people_has_a_line_for_each_idle_rule(tmp_path: Path) -> None:
    text = "rules: [{match: {index: 8}, offers: [exclude]}, {match: {index: 9}, offers: [whole]}]"
    sharing, store = sharing_of(config_of(tmp_path, text).sections), InventoryStore(lambda: 0.0)
    store.latest.set(A100)
    part = UnusedRulesPart(store, lambda: sharing.rules, lambda: True)
    assert part.notice.splitlines() == [
        "rules[0] fits no device of this node",
        "rules[1] fits no device of this node",
    ]


def test_a_rule_about_a_vendor_that_the_node_has_not_is_no_warning(tmp_path: Path) -> None:
    rule = "rules: [{match: {vendor: nvidia}, offers: [exclude]}]"
    assert logged(rule, tmp_path, AMD) == [("info", "rules[0]")]
