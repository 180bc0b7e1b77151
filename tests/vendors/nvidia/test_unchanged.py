"""An NVIDIA vendor sees by a glance what has changed, without an event of NVML."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.testing.tree import remove, write_tree
from tests.fakes.nvml import NvmlDouble
from tests.vendors.nvidia.conftest import MakeVendor


def cut_otherwise(node: NvmlDouble, _: Path) -> None:
    node.set_mig(3, ["3g.20gb", "2g.10gb"])


def same_number_of_instances(node: NvmlDouble, _: Path) -> None:
    node.set_mig(3, ["3g.20gb", "1g.5gb", "1g.5gb"])


def not_cut(node: NvmlDouble, _: Path) -> None:
    node.clear_mig(3)


def mig_pending(node: NvmlDouble, _: Path) -> None:
    node.update_gpu(0, lambda gpu: replace(gpu, mig_pending=True))


def lost(node: NvmlDouble, _: Path) -> None:
    node.lose(1)


def not_counted(node: NvmlDouble, _: Path) -> None:
    node.remove(2)


def node_goes(_: NvmlDouble, root: Path) -> None:
    remove(root, "/dev/nvidia2")


def given_to_machines(node: NvmlDouble, root: Path) -> None:
    path = f"/sys/bus/pci/devices/{node.scenario.gpus[0].bdf}/driver"
    write_tree(root, f"{path} -> ../../../bus/pci/drivers/vfio-pci")


def mediated_device(_: NvmlDouble, root: Path) -> None:
    write_tree(root, "/sys/bus/mdev/devices/c0b26072-dd1b-4340-84fe-bf338c510818/x = y")


CHANGES = (
    cut_otherwise,
    same_number_of_instances,
    not_cut,
    mig_pending,
    lost,
    not_counted,
    node_goes,
    given_to_machines,
    mediated_device,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_glance_sees(
    change: Callable[[NvmlDouble, Path], None],
    node: NvmlDouble,
    make_vendor: MakeVendor,
    tmp_path: Path,
) -> None:
    vendor = make_vendor(nvidia={"pass_device_specs": True})
    assert not vendor.unchanged()
    vendor.discover()
    assert vendor.unchanged()
    assert vendor.unchanged()
    change(node, tmp_path)
    assert not vendor.unchanged()


def test_a_session_that_was_closed_is_no_reason_to_spare_a_discovery(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor()
    vendor.discover()
    vendor.close()
    assert not vendor.unchanged()
