"""Every tree, every naming: the vendor keeps the contract."""

from collections import Counter
from pathlib import Path

import pytest

from deviceplugin.discovery.registry import load_vendors
from deviceplugin.host import Host
from deviceplugin.testing.amd import write_amd_node
from deviceplugin.testing.contract import contract_problems
from deviceplugin.vendor import CdiSource
from tests.vendors.amd.amd_nodes import NODES, recorded_tree, vendor_at


@pytest.mark.parametrize("naming", ["single", "mixed"])
@pytest.mark.parametrize("node", NODES)
def test_a_node_keeps_the_vendor_contract(tmp_path: Path, node: str, naming: str) -> None:
    vendor = vendor_at(tmp_path, NODES[node], amd={"resource_naming": naming, "card_nodes": True})
    assert contract_problems(vendor, Host(tmp_path)) == []
    assert isinstance(vendor, CdiSource)


@pytest.mark.parametrize("archive", ["amd-kfd-mi210-x8.tar.xz", "amd-kfd-mi300x-cpx-x8.tar.xz"])
def test_a_recorded_machine_keeps_the_vendor_contract(tmp_path: Path, archive: str) -> None:
    vendor = vendor_at(tmp_path, recorded_tree(archive))
    assert contract_problems(vendor, Host(tmp_path)) == []


def test_the_vendor_is_installed_by_its_entry_point() -> None:
    (module,) = load_vendors(("amd",))
    assert module.NAME == "amd"


def test_the_shipped_node_has_a_whole_gpu_and_eight_partitions(tmp_path: Path) -> None:
    write_amd_node(tmp_path)
    found = vendor_at(tmp_path, amd={"resource_naming": "mixed"}).discover()
    assert Counter(device.resource for device in found.devices) == {
        None: 1,
        "amd.com/gpu": 1,
        "amd.com/cpx_nps4": 8,
    }
