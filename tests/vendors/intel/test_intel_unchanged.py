"""An Intel vendor sees by a glance what has changed, without a word of the kernel."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.tree import remove
from tests.vendors.intel.conftest import MakeVendor

SIX = ["xe"] * 6
FIRST_VF = "0000:03:00.1"


def more_functions(root: Path) -> None:
    set_vfs(root, B60, 4, 4 << 30, SIX[:4])


def other_quota(root: Path) -> None:
    set_vfs(root, B60, 6, 2 << 30, SIX)


def bound_to_vfio(root: Path) -> None:
    set_vfs(root, B60, 6, 4 << 30, ["vfio-pci", *SIX[1:]])


def device_node_goes(root: Path) -> None:
    remove(root, f"/dev/dri/card{B60.card}")


def gpu_comes(root: Path) -> None:
    write_intel_node(root, replace(B60, address="0000:d4:00.0", card=160, render=250, group=300))


CHANGES = (more_functions, other_quota, bound_to_vfio, device_node_goes, gpu_comes)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_glance_sees(change: Callable[[Path], None], root: Path, make_vendor: MakeVendor) -> None:
    write_intel_node(root, B60)
    set_vfs(root, B60, 6, 4 << 30, SIX)
    vendor = make_vendor()
    assert not vendor.unchanged()
    vendor.discover()
    assert vendor.unchanged()
    assert vendor.unchanged()
    change(root)
    assert not vendor.unchanged()
