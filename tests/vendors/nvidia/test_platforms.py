"""Tegra and WSL: the one device of a node whose GPU NVML does not show."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cdi.spec import document
from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import LibraryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.runtimes import CdiSupport
from deviceplugin.model import Discovery
from deviceplugin.testing.contract import tree_problems
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendor import Finding
from deviceplugin.vendors import nvidia
from deviceplugin.vendors.nvidia.discovery import Scan
from deviceplugin.vendors.nvidia.library import Nvml, open_nvml
from deviceplugin.vendors.nvidia.platforms import has_only_integrated, parse_csv
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree

CSV = "/etc/nvidia-container-runtime/host-files-for-container.d"
TEGRA_LIB = "/usr/lib/aarch64-linux-gnu/tegra"
DEVICES = ("/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/nvhost-gone")
LISTED = (
    f"lib, {TEGRA_LIB}/libcuda.so.1.1",
    f"sym, {TEGRA_LIB}/libcuda.so",
    f"lib, {TEGRA_LIB}/libnvrm_gpu.so",
    f"lib, {TEGRA_LIB}/libgone.so",
    "dir, /usr/share/glvnd/egl_vendor.d",
)
LINE = r"\n"
JETSON = f"""
/etc/nv_tegra_release = # R35 (release), REVISION: 2.1, GCID: 32413640, BOARD: t186ref
/sys/devices/soc0/family = Tegra
/proc/device-tree/model = NVIDIA Jetson AGX Orin Developer Kit
/proc/device-tree/compatible = nvidia,p3737-0000+p3701-0000
/dev/nvhost-ctrl-gpu c 505:0
/dev/nvhost-gpu c 505:1
/dev/nvmap c 10:53
/dev/dri/renderD128 c 226:128
{TEGRA_LIB}/libcuda.so.1.1 = x
{TEGRA_LIB}/libcuda.so -> libcuda.so.1.1
{TEGRA_LIB}/libnvrm_gpu.so = x
/usr/share/glvnd/egl_vendor.d/
{CSV}/devices.csv = {LINE.join(f"dev, {node}" for node in DEVICES)}
{CSV}/l4t.csv = {LINE.join(LISTED)}
"""
ORIN_NODES = ("/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvmap")
WSL = """
/dev/dxg c 10:127
/usr/lib/wsl/lib/libcuda.so.1 = x
/usr/lib/wsl/lib/libdxcore.so = x
/usr/lib/wsl/drivers/
"""
Make = Callable[..., NvidiaVendor]


def no_library(_host: Host, _root: str) -> Nvml:
    raise UnavailableError("no NVIDIA driver")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make vendors for the tree, without NVML where `library` is not given."""
    made: list[NvidiaVendor] = []

    def vendor(library: Any = no_library, *, cdi: bool = False, **section: Any) -> NvidiaVendor:
        sections = decode_sections({"nvidia": section}, nvidia.SECTIONS)
        support = CdiSupport(honoured=cdi, reason="as the test says", remedy="another test")
        made.append(nvidia.create(Host(tmp_path), sections, library, lambda _: support))
        return made[-1]

    yield vendor
    for one in made:
        one.close()


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    write_tree(tmp_path, JETSON)
    return tmp_path


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    write_tree(tmp_path, WSL)
    return tmp_path


def codes(found: Discovery) -> set[str]:
    return {fault.code for fault in found.faults}


@pytest.mark.parametrize("tree", [JETSON, WSL], ids=["jetson", "wsl"])
def test_a_place_keeps_the_contract_of_vendors(tree: str) -> None:
    assert tree_problems(nvidia, tree) == []


def test_a_jetson_is_one_gpu(jetson: Path, make: Make) -> None:
    found = make().discover()
    (device,) = found.devices
    assert (device.id, device.resource) == ("tegra", "nvidia.com/gpu")
    assert device.product == "NVIDIA Jetson AGX Orin Developer Kit"
    assert device.nodes == ORIN_NODES
    assert dict(device.attributes) == {"platform": "tegra", "l4t": "35.2.1"}
    assert (device.memory_bytes, device.pci_address, found.faults) == (None, None, ())


@pytest.mark.parametrize(
    "sign",
    [
        "/etc/nv_tegra_release = # R36",
        "/sys/devices/soc0/family = tegra234",
        "/proc/device-tree/compatible = nvidia,p3701 nvidia,tegra234",
    ],
    ids=["release", "soc", "device tree"],
)
def test_one_sign_of_a_tegra_is_enough(tmp_path: Path, make: Make, sign: str) -> None:
    write_tree(tmp_path, f"{sign}\n/dev/nvgpu/igpu0/power c 500:0\n/dev/nvmap c 10:53")
    (device,) = make().discover().devices
    assert device.id == "tegra"
    assert device.nodes == ("/dev/nvmap", "/dev/nvgpu/igpu0/power")


def test_a_container_gets_the_name_that_nvidias_runtime_knows(jetson: Path, make: Make) -> None:
    for strategy in ("uuid", "index"):
        vendor = make(device_id_strategy=strategy, pass_device_specs=True)
        edits = vendor.container_edits(vendor.discover().devices)
        assert dict(edits.env) == {"NVIDIA_VISIBLE_DEVICES": "tegra"}
        assert tuple(node.path for node in edits.device_nodes) == ORIN_NODES


def test_a_cdi_file_has_what_l4t_lists_for_containers(jetson: Path, make: Make) -> None:
    vendor = make(cdi=True)
    found = vendor.discover()
    assert found.faults == ()
    edits = vendor.container_edits(found.devices)
    assert edits.cdi_devices == ("k8s.device-plugin.nvidia.com/gpu=tegra",)
    spec, *_ = vendor.cdi_specs(found.devices)
    written = json.loads(document(spec))
    (device,) = written["devices"]
    assert [n["path"] for n in device["containerEdits"]["deviceNodes"]] == list(ORIN_NODES)
    mounts = {m["containerPath"]: m["hostPath"] for m in written["containerEdits"]["mounts"]}
    assert mounts == {
        f"{TEGRA_LIB}/libcuda.so.1.1": f"{TEGRA_LIB}/libcuda.so.1.1",
        f"{TEGRA_LIB}/libcuda.so": f"{TEGRA_LIB}/libcuda.so.1.1",
        f"{TEGRA_LIB}/libnvrm_gpu.so": f"{TEGRA_LIB}/libnvrm_gpu.so",
        "/usr/share/glvnd/egl_vendor.d": "/usr/share/glvnd/egl_vendor.d",
    }
    assert written["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]


def test_a_hook_is_used_where_there_is_one(jetson: Path, make: Make) -> None:
    write_tree(jetson, "/usr/bin/nvidia-ctk = x")
    vendor = make(cdi=True)
    spec, *_ = vendor.cdi_specs(vendor.discover().devices)
    (hook,) = spec.common.hooks
    assert hook.args[-2:] == ("--folder", TEGRA_LIB)


def test_without_the_list_cdi_is_not_chosen_and_the_line_says_why(jetson: Path, make: Make) -> None:
    remove(jetson, CSV)
    found = make(cdi=True).discover()
    assert found.faults == ()
    assert f"{CSV} has none of devices.csv, drivers.csv, l4t.csv" in found.notes[0]
    forced = make(device_list_strategy=["cdi-cri"]).discover()
    assert codes(forced) == {"driver_files_missing"}


def test_a_list_that_others_can_write_is_not_used(jetson: Path, make: Make) -> None:
    (jetson / f"{CSV[1:]}/l4t.csv").chmod(0o666)
    vendor = make(device_list_strategy=["cdi-cri"])
    found = vendor.discover()
    (fault,) = found.faults
    assert (fault.code, f"{CSV}/l4t.csv is not used" in fault.reason) == (
        "driver_files_missing",
        True,
    )


def test_a_jetson_without_nodes_cannot_be_given_by_nodes(jetson: Path, make: Make) -> None:
    remove(jetson, *ORIN_NODES)
    assert codes(make(pass_device_specs=True).discover()) == {"node_missing"}
    assert codes(make().discover()) == set()


def test_a_card_beside_a_tegra_is_what_is_served(jetson: Path, make: Make) -> None:
    double = NvmlDouble(jetson, scenario=Scenario(gpus=(a100_40gb(0),)))
    write_host_tree(jetson, double.scenario)
    (device,) = make(open_nvml).discover().devices
    assert device.id.startswith("GPU-")


@pytest.mark.parametrize("product", ["Orin (nvgpu)", "NVIDIA Thor"])
def test_the_tegras_own_gpu_in_nvml_is_the_tegra(jetson: Path, make: Make, product: str) -> None:
    gpu = a100_40gb(0, name=product)
    double = NvmlDouble(jetson, scenario=Scenario(gpus=(gpu,)))
    write_host_tree(jetson, double.scenario)
    vendor = make(open_nvml)
    (device,) = vendor.discover().devices
    assert device.id == "tegra"
    assert vendor.unchanged()
    forced = make(open_nvml, device_discovery_strategy="nvml")
    assert forced.discover().devices[0].id.startswith("GPU-")


def test_a_card_that_fails_keeps_a_node_from_being_a_tegra(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        """
        /sys/bus/pci/devices/0005:01:00.0/vendor = 0x10de
        /sys/bus/pci/devices/0005:01:00.0/device = 0x2230
        /sys/bus/pci/devices/0005:01:00.0/class = 0x030200
        """,
    )
    lost = LibraryError("nvmlDeviceGetHandleByIndex", 15, "GPU is lost")
    scan = Scan(gpus=(), failed={"0005:01:00.0": lost}, nameless={})
    assert not has_only_integrated(Host(tmp_path), scan)


def test_wsl_is_one_device_for_all_gpus_of_windows(windows: Path, make: Make) -> None:
    vendor = make(pass_device_specs=True)
    found = vendor.discover()
    (device,) = found.devices
    assert (device.id, device.resource, device.nodes) == ("all", "nvidia.com/gpu", ("/dev/dxg",))
    edits = vendor.container_edits(found.devices)
    assert dict(edits.env) == {"NVIDIA_VISIBLE_DEVICES": "all"}
    assert [node.path for node in edits.device_nodes] == ["/dev/dxg"]


def test_on_wsl_a_cdi_file_has_windows_libraries(windows: Path, make: Make) -> None:
    vendor = make(cdi=True)
    spec, *_ = vendor.cdi_specs(vendor.discover().devices)
    places = {mount.path: mount.host_path for mount in spec.common.mounts}
    assert places["/usr/lib/wsl/drivers"] == "/usr/lib/wsl/drivers"
    assert places["/usr/lib64/libcuda.so.1"] == "/usr/lib/wsl/lib/libcuda.so.1"


def test_another_vendors_gpu_on_wsl_is_not_nvidias(windows: Path, make: Make) -> None:
    remove(windows, "/usr/lib/wsl/lib/libcuda.so.1")
    with pytest.raises(UnavailableError, match="no NVIDIA driver"):
        make().discover()


@pytest.mark.parametrize("strategy", ["tegra", "wsl"])
def test_a_place_that_is_named_and_is_not_there_is_told(make: Make, strategy: str) -> None:
    with pytest.raises(UnavailableError, match=f"is {strategy}, but the host has n"):
        make(device_discovery_strategy=strategy).discover()


def test_changes_are_seen_without_nvml(jetson: Path, make: Make) -> None:
    vendor = make()
    vendor.discover()
    assert vendor.unchanged()
    write_tree(jetson, f"{CSV}/drivers.csv = lib, /usr/lib/x.so")
    assert not vendor.unchanged()


def test_its_health_is_not_asked_for(jetson: Path, make: Make) -> None:
    vendor = make()
    (device,) = vendor.discover().devices
    assert vendor.probe_health(device) == Finding()
    assert vendor.processes([device]) == ()
    stop = threading.Event()
    stop.set()
    vendor.watch_health([device], Silent(), stop)


class Silent:
    """A report that nobody may make."""

    def faults(self, source: str, faults: object) -> None:
        raise AssertionError(source)

    def event(self, fault: object) -> None:
        raise AssertionError(fault)

    happened = event

    def rediscover(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("dev, /dev/nvmap", [("dev", "/dev/nvmap")]),
        ("lib,/usr/lib/a.so", [("lib", "/usr/lib/a.so")]),
        ("  dir , /etc/x/ ", [("dir", "/etc/x")]),
        ("dev, /etc/shadow", []),
        ("lib, /dev/sda", []),
        ("lib, /proc/1/root", []),
        ("lib, /usr/../dev/sda", []),
        ("dir, /", []),
        ("dir, /dev", []),
        ("lib, relative.so", []),
        ("run, /bin/sh", []),
        ("", []),
    ],
    ids=str,
)
def test_a_line_of_the_list_is_an_absolute_path_or_nothing(
    line: str, entries: list[tuple[str, str]]
) -> None:
    assert list(parse_csv(line)) == entries
