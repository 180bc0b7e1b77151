"""How containers get NVIDIA devices where the configuration leaves it open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from deviceplugin.host.runtimes import CdiSupport
from deviceplugin.model import Discovery
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors import nvidia
from deviceplugin.vendors.nvidia.library import open_nvml
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree

YES = CdiSupport(honoured=True, reason="containerd 2.1 honours CDI names")
NO = CdiSupport(honoured=False, reason="containerd 1.6 honours no CDI names", remedy="containerd 2")
CUDA = "/usr/lib64/libcuda.so.550.163.01"
BEATEN = "a pod's own NVIDIA_VISIBLE_DEVICES beats it"


class Runtime:
    """A container runtime whose support for CDI a test decides."""

    def __init__(self) -> None:
        self.support = YES

    def __call__(self, _: Host) -> CdiSupport:
        return self.support


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def vendor(tmp_path: Path, runtime: Runtime) -> Iterator[NvidiaVendor]:
    yield from serving(tmp_path, runtime)


@pytest.fixture
def settled(tmp_path: Path, runtime: Runtime) -> Iterator[NvidiaVendor]:
    """One whose configuration names a strategy."""
    yield from serving(tmp_path, runtime, "volume-mounts")


def serving(root: Path, runtime: Runtime, *strategies: str) -> Iterator[NvidiaVendor]:
    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    write_host_tree(root, double.scenario)
    write_tree(root, f"{CUDA} = x")
    given = {"nvidia": {"device_list_strategy": list(strategies)}} if strategies else {}
    sections = decode_sections(given, nvidia.SECTIONS)
    vendor = nvidia.create(Host(root), sections, open_nvml, runtime)
    yield vendor
    vendor.close()


def delivered(vendor: NvidiaVendor, found: Discovery) -> str:
    """What a container that gets the first GPU is given."""
    given = vendor.container_edits([found.devices[0]])
    named = [spec for spec in vendor.cdi_specs(found.devices) if spec.devices]
    assert bool(named) is bool(given.cdi_devices)
    return "cdi" if given.cdi_devices else given.env["NVIDIA_VISIBLE_DEVICES"]


def test_a_runtime_that_honours_cdi_is_given_cdi_names(vendor: NvidiaVendor) -> None:
    found = vendor.discover()
    assert found.notes == (
        "device_list_strategy auto is cdi-cri: containerd 2.1 honours CDI names",
    )
    assert found.faults == ()
    assert delivered(vendor, found) == "cdi"


def test_any_other_gets_the_variable_and_a_line_says_why(
    vendor: NvidiaVendor, runtime: Runtime
) -> None:
    runtime.support = NO
    found = vendor.discover()
    (note,) = found.notes
    assert note.startswith("device_list_strategy auto is envvar: containerd 1.6 honours no CDI")
    assert BEATEN in note
    assert note.endswith("It becomes cdi-cri by: containerd 2")
    assert delivered(vendor, found) == found.devices[0].id


def test_a_setting_beats_the_choice_and_needs_no_line(settled: NvidiaVendor) -> None:
    found = settled.discover()
    assert found.notes == ()
    assert delivered(settled, found) == "/var/run/nvidia-container-devices"


def test_before_the_first_look_an_answer_is_that_of_nvidias_plugin(vendor: NvidiaVendor) -> None:
    (device, *_) = vendor.discover().devices
    vendor.close()
    fresh = nvidia.create(Host(Path("/nowhere")), decode_sections({}, nvidia.SECTIONS))
    assert fresh.container_edits([device]).env == {"NVIDIA_VISIBLE_DEVICES": device.id}


@pytest.mark.parametrize("absent", [CUDA, "/dev/nvidia0 and /dev/nvidia1"])
def test_a_node_where_cdi_would_withdraw_every_gpu_keeps_the_variable(
    tmp_path: Path, vendor: NvidiaVendor, absent: str
) -> None:
    remove(tmp_path, *absent.split(" and "))
    found = vendor.discover()
    assert found.faults == ()
    assert "auto is envvar: " in found.notes[0]
    assert ("libcuda" in found.notes[0]) is (absent == CUDA)
    assert delivered(vendor, found) == found.devices[0].id


def test_one_gpu_without_a_node_costs_itself_and_not_the_choice(
    tmp_path: Path, vendor: NvidiaVendor
) -> None:
    remove(tmp_path, "/dev/nvidia1")
    found = vendor.discover()
    assert [(f.device, f.code) for f in found.faults] == [(found.devices[1].id, "node_missing")]
    assert delivered(vendor, found) == "cdi"


def test_a_choice_stays_when_files_are_lost_later(tmp_path: Path, vendor: NvidiaVendor) -> None:
    vendor.discover()
    remove(tmp_path, CUDA)
    found = vendor.discover()
    assert {fault.code for fault in found.faults} == {"driver_files_missing"}
    assert "auto is cdi-cri" in found.notes[0]
    assert vendor.container_edits([found.devices[0]]).cdi_devices


@pytest.mark.parametrize("change", ["off", "on"])
def test_a_runtime_that_changes_is_followed(
    vendor: NvidiaVendor, runtime: Runtime, change: str
) -> None:
    runtime.support = NO if change == "on" else YES
    vendor.discover()
    runtime.support = YES if change == "on" else NO
    found = vendor.discover()
    assert (delivered(vendor, found) == "cdi") is (change == "on")


@pytest.mark.parametrize("given", ["envvar auto", "auto cdi-cri", "auto auto"])
def test_auto_stands_alone(given: str) -> None:
    sections = {"nvidia": {"device_list_strategy": given.split()}}
    with pytest.raises(ConfigError, match="auto stands alone"):
        decode_sections(sections, nvidia.SECTIONS)
