"""The cost of a pair: any fabric before any PCIe path, more information before none."""

from itertools import pairwise

import pytest

from deviceplugin.model import Device, DeviceID, Link, LinkKind
from deviceplugin.placement.topology import (
    UNKNOWN,
    PciTopology,
    Place,
    distance,
    pcie_level,
    topology_of,
)
from tests.placement import boxes

PEER = DeviceID("peer")
NOWHERE = Place()


def link(kind: LinkKind, width: int = 1, weight: int | None = None) -> Link:
    return Link(peer=PEER, kind=kind, width=width, weight=weight)


@pytest.mark.parametrize(
    ("own", "level", "cost", "relation"),
    [
        pytest.param({"width": 3}, 50, 4005, "HCCS ×3", id="no cost: as NVLink of its width"),
        pytest.param({"weight": 1}, 50, 10005, "HCCS ×1", id="a weight of an unknown scale"),
        pytest.param({"cost": 13}, 50, 1305, "HCCS ×1", id="its cost"),
        pytest.param({"cost": 300}, 50, 30005, "HCCS ×1", id="better than across sockets"),
        pytest.param({"cost": 300}, 10, 24000, "same PCIe switch", id="worse than a switch"),
        pytest.param({"cost": -5}, 50, 105, "HCCS ×1", id="below the scale"),
    ],
)
def test_a_kind_of_a_vendors_own_costs_what_it_says(
    own: dict[str, int], level: int, cost: int, relation: str
) -> None:
    fabric = Link(peer=DeviceID("b"), kind="HCCS", **own)
    found = distance([fabric, link(LinkKind.PCIE, weight=level)], NOWHERE, NOWHERE)
    assert (found.cost, found.relation) == (cost, relation)


def test_a_known_kind_is_known_by_its_word() -> None:
    word, member = (
        distance([Link(peer=DeviceID("b"), kind=kind, weight=20)], NOWHERE, NOWHERE)
        for kind in ("PCIE", LinkKind.PCIE)
    )
    assert word == member


def test_relations_have_an_order() -> None:
    order = [
        [link(LinkKind.XGMI, weight=13)],
        [link(LinkKind.XGMI, weight=15)],
        [link(LinkKind.XGMI, weight=41)],
        [link(LinkKind.NVLINK, width=2)],
        [link(LinkKind.NVLINK, width=1)],
        [link(LinkKind.XGMI, weight=140)],
        *([link(LinkKind.PCIE, weight=level)] for level in (0, 10, 20, 30, 40, 50)),
        [],
    ]
    costs = [distance(links, NOWHERE, NOWHERE).cost for links in order]
    assert all(one < other for one, other in pairwise(costs))
    assert costs[-1] == UNKNOWN


def test_kfd_weights_of_pcie_are_levels_at_most_across_sockets() -> None:
    near, far, nvml = (
        distance([link(LinkKind.PCIE, weight=w)], NOWHERE, NOWHERE) for w in (40, 72, 50)
    )
    assert near.relation == "same NUMA node"
    assert far == nvml


def test_behind_a_switch_the_nearer_gpu_costs_less() -> None:
    fabric = link(LinkKind.NVLINK, width=12)
    near, far = (
        distance([fabric, link(LinkKind.PCIE, weight=w)], NOWHERE, NOWHERE) for w in (10, 50)
    )
    assert near.cost < far.cost
    assert near.relation == far.relation == "NVLINK ×12"


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        pytest.param("pci0000:00/a/b/c/g0", "pci0000:00/a/b/c/g1", 0, id="functions of one board"),
        pytest.param("pci0000:00/a/b/c/g0", "pci0000:00/a/b/d/g1", 10, id="one switch"),
        pytest.param("pci0000:00/a/b/c/x/y/g0", "pci0000:00/a/b/d/g1", 20, id="several switches"),
        pytest.param("pci0000:00/a/b/c/g0", "pci0000:00/h/i/g1", 30, id="one host bridge"),
        pytest.param("pci0000:00/a/g0", "pci0000:80/a/g1", 40, id="one socket"),
    ],
)
def test_paths_of_sysfs_tell_the_nearest_common_ancestor(one: str, other: str, level: int) -> None:
    places = (Place(path=f"/sys/devices/{path}", numa_node=0) for path in (one, other))
    assert pcie_level(*places) == level


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [(0, 0, 40), (0, 1, 50), (None, 0, 60), (None, None, 60)],
)
def test_numa_nodes_tell_the_rest(one: int | None, other: int | None, level: int) -> None:
    assert pcie_level(Place(numa_node=one), Place(numa_node=other)) == level


def test_links_of_partitions_count_for_their_gpus() -> None:
    devices = [
        Device(id=DeviceID("a"), vendor="x"),
        Device(id=DeviceID("a1"), vendor="x", parent=DeviceID("a"), links=(_to("b1", 41),)),
        Device(id=DeviceID("b"), vendor="x"),
        Device(id=DeviceID("b1"), vendor="x", parent=DeviceID("b"), links=(_to("a1", 41),)),
    ]
    topology = topology_of(boxes.inventory(devices), PciTopology())
    assert topology.between(DeviceID("a"), DeviceID("b")).relation == "XGMI weight 41"
    assert topology.gpu_of == {"a": "a", "a1": "a", "b": "b", "b1": "b"}


def test_a_parent_that_nobody_lists_is_a_gpu_all_the_same() -> None:
    parts = [Device(id=DeviceID(f"p{n}"), vendor="x", parent=DeviceID("gpu")) for n in range(2)]
    topology = topology_of(boxes.inventory(parts), PciTopology())
    assert topology.gpus == ("gpu",)


def _to(peer: str, weight: int) -> Link:
    return Link(peer=DeviceID(peer), kind=LinkKind.XGMI, weight=weight)
