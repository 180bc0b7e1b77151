"""Recorded topologies of real machines, read whole."""

from pathlib import Path

from deviceplugin.model import FaultClass, LinkKind
from tests.vendors.amd.amd_nodes import look, offered, recorded_tree


def test_eight_mi210_are_eight_devices_in_two_hives(tmp_path: Path) -> None:
    found = look(tmp_path, recorded_tree("amd-kfd-mi210-x8.tar.xz"))
    assert len(offered(found, "amd.com/gpu")) == len(found.devices) == 8
    assert found.faults == ()
    assert len({d.attributes["xgmi_hive"] for d in found.devices}) == 2
    assert {d.attributes["gfx_version"] for d in found.devices} == {"gfx90a"}
    assert {d.attributes["compute_units"] for d in found.devices} == {"104"}
    for device in found.devices:
        kinds = [(link.kind, link.weight) for link in device.links]
        assert kinds.count((LinkKind.XGMI, 15)) == 3
        assert kinds.count((LinkKind.PCIE, 72)) == 4


def test_eight_mi300x_in_cpx_are_63_live_partitions_and_a_fault_for_the_missing_one(
    tmp_path: Path,
) -> None:
    found = look(
        tmp_path,
        recorded_tree("amd-kfd-mi300x-cpx-x8.tar.xz"),
        amd={"resource_naming": "mixed"},
    )
    assert len(offered(found, "amd.com/cpx_nps4")) == 63
    assert len(found.devices) == 63 + 8
    (fault,) = found.faults
    parent = next(device for device in found.devices if device.id == fault.device)
    assert (parent.pci_address, parent.resource) == ("0000:e5:00.0", None)
    assert fault.kind is FaultClass.INFO
    assert "7 of 8 partitions live, without 7" in fault.reason


def test_partitions_have_the_weights_that_kfd_gives_each_of_them(tmp_path: Path) -> None:
    found = look(tmp_path, recorded_tree("amd-kfd-mi300x-cpx-x8.tar.xz"))
    for device in offered(found):
        siblings = [p for p in offered(found) if p.parent == device.parent and p != device]
        weights = {link.peer: link.weight for link in device.links}
        assert len(weights) == 62
        assert {weights[sibling.id] for sibling in siblings} == {13}
        assert {w for peer, w in weights.items() if peer not in {s.id for s in siblings}} == {41}
