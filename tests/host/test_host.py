"""Reading the host below a root."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.host.drm import read_drm_nodes
from deviceplugin.host.pci import parse_address, read_function, read_gpus, read_numa_node
from deviceplugin.host.sriov import read_vfio_nodes, read_virtual_functions
from deviceplugin.testing.tree import write_tree

GPU = "/sys/bus/pci/devices/0000:07:00.0"
TREE = f"""
{GPU}/vendor = 0x10de
{GPU}/device = 0x20b0
{GPU}/class = 0x030200
{GPU}/numa_node = 1
{GPU}/driver -> ../../../bus/pci/drivers/nvidia
{GPU}/drm/card1/
{GPU}/drm/renderD128/
{GPU}/drm/controlD64/
/sys/bus/pci/devices/0000:08:00.0/vendor = 0x10de
/sys/bus/pci/devices/0000:08:00.0/device = 0x1aef
/sys/bus/pci/devices/0000:08:00.0/class = 0x040300
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    write_tree(tmp_path, TREE)
    return Host(tmp_path)


def test_gpus_are_display_functions_of_their_vendor(host: Host) -> None:
    (gpu,) = read_gpus(host, 0x10DE)
    assert (gpu.address, gpu.driver, gpu.numa_node) == ("0000:07:00.0", "nvidia", 1)
    assert read_gpus(host, 0x1002) == ()


def test_what_is_absent_is_none_or_empty(host: Host) -> None:
    assert host.read_text("/sys/nothing") is None
    assert host.read_int("/sys/nothing") is None
    assert host.read_names("/sys/nothing") == ()
    assert host.read_link_name(f"{GPU}/vendor") is None
    assert read_function(host, "0000:99:00.0") is None


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(host: Host) -> None:
    with pytest.raises(DiscoveryError, match=re.escape(f"{GPU}: ")):
        host.read_text(GPU)
    write_tree(host.root, f"{GPU}/vendor = banana")
    with pytest.raises(DiscoveryError, match=r"vendor: 'banana' is not an integer"):
        host.read_int(f"{GPU}/vendor")


@pytest.mark.parametrize(("text", "node"), [("-1", None), ("0", 0), ("banana", None)])
def test_an_unknown_numa_node_is_none_and_costs_nothing(
    host: Host, text: str, node: int | None
) -> None:
    write_tree(host.root, f"{GPU}/numa_node = {text}")
    assert read_numa_node(host, "0000:07:00.0") == node
    assert len(read_gpus(host, 0x10DE)) == 1


def test_drm_nodes_leave_control_nodes_out(host: Host) -> None:
    nodes = read_drm_nodes(host, GPU)
    assert (nodes.card, nodes.render, nodes.render_minor) == (
        "/dev/dri/card1",
        "/dev/dri/renderD128",
        128,
    )


def test_virtual_functions_come_in_number_order(host: Host) -> None:
    for number in (0, 2, 10):
        write_tree(host.root, f"{GPU}/virtfn{number} -> ../0000:07:{number:02x}.0")
    assert read_virtual_functions(host, "0000:07:00.0") == (
        "0000:07:00.0",
        "0000:07:02.0",
        "0000:07:0a.0",
    )


def test_vfio_nodes_are_those_that_exist(host: Host) -> None:
    write_tree(host.root, f"{GPU}/iommu_group -> ../../../kernel/iommu_groups/41")
    assert read_vfio_nodes(host, "0000:07:00.0") == ()
    write_tree(host.root, f"/dev/vfio/41 c 10:1\n{GPU}/vfio-dev/vfio3/\n/dev/iommu c 10:2")
    assert read_vfio_nodes(host, "0000:07:00.0") == ("/dev/vfio/41", "/dev/iommu")
    write_tree(host.root, "/dev/vfio/devices/vfio3 c 10:3")
    assert "/dev/vfio/devices/vfio3" in read_vfio_nodes(host, "0000:07:00.0")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0001:0a:1f.7", "0001:0a:1f.7"),
        ("00010000:00:00.0", "10000:00:00.0"),
    ],
)
def test_pci_addresses_have_one_form(text: str, address: str) -> None:
    assert parse_address(text) == address


@given(st.text())
def test_text_that_is_no_address_is_a_value_error(text: str) -> None:
    try:
        assert parse_address(parse_address(text)) == parse_address(text)
    except ValueError as error:
        assert "PCI address" in str(error)


@pytest.mark.parametrize("line", ["nonsense", "relative = 1", "/../x = 1"])
def test_a_bad_line_of_a_tree_is_told_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        write_tree(tmp_path, f"/ok = 1\n{line}")


def test_the_boot_is_the_trees_own_or_that_of_the_kernel_under_us(tmp_path: Path) -> None:
    ours = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert read_boot_id(Host(tmp_path)) == ours
    write_tree(tmp_path, "/proc/sys/kernel/random/boot_id = another")
    assert read_boot_id(Host(tmp_path)) == "another"
