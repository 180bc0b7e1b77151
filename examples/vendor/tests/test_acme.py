"""Acme's NPUs on the sample node, and the contract of the daemon."""

from pathlib import Path

import acme_npu
import pytest
from acme_npu.section import AcmeSection
from acme_npu.vendor import AcmeVendor

from deviceplugin.api import FaultClass, Host, UnavailableError
from deviceplugin.testing.contract import contract_problems, module_problems, tree_problems
from deviceplugin.testing.tree import write_tree

NODE = (Path(__file__).parents[1] / "node.tree").read_text()
FIRST = "/sys/bus/pci/devices/0000:01:00.0"


@pytest.fixture
def vendor(tmp_path: Path) -> AcmeVendor:
    write_tree(tmp_path, NODE)
    return acme_npu.create(Host(tmp_path), {"acme": AcmeSection(cdi=True)})


def test_the_contract_is_kept(vendor: AcmeVendor, tmp_path: Path) -> None:
    assert contract_problems(vendor, Host(tmp_path)) == []
    assert module_problems(acme_npu) == []
    assert tree_problems(acme_npu, NODE) == []


def test_npus_are_found_with_their_ring(vendor: AcmeVendor) -> None:
    devices = vendor.discover().devices
    assert [device.nodes for device in devices] == [(f"/dev/acme{n}",) for n in range(4)]
    assert [link.peer for link in devices[0].links] == ["0000:02:00.0", "0000:04:00.0"]
    assert {link.kind for device in devices for link in device.links} == {"RING"}


def test_a_hot_npu_is_a_fault_that_a_reset_ends(vendor: AcmeVendor, tmp_path: Path) -> None:
    write_tree(tmp_path, f"{FIRST}/health = 3 95 degrees")
    first, second, *_ = vendor.discover().devices
    (fault,) = vendor.probe_health(first).faults
    assert (fault.code, fault.kind) == ("too_hot", FaultClass.RESET)
    assert vendor.probe_health(second).faults == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (f"{FIRST}/memory_bytes = much", "unreadable"),
        (f"{FIRST}/class = what", "unreadable"),
    ],
)
def test_an_npu_that_cannot_be_read_costs_itself(
    vendor: AcmeVendor, tmp_path: Path, change: str, code: str
) -> None:
    write_tree(tmp_path, change)
    found = vendor.discover()
    assert [(fault.device, fault.code) for fault in found.faults] == [("0000:01:00.0", code)]
    assert len(found.devices) == 4


def test_a_node_without_npus_is_normal(tmp_path: Path) -> None:
    vendor = acme_npu.create(Host(tmp_path), {"acme": AcmeSection()})
    with pytest.raises(UnavailableError):
        vendor.discover()
