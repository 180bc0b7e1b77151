"""The figures by which policies decide, each by its value: a choice may be right by chance."""

from types import MappingProxyType

import pytest
from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedID,
    DeviceID,
    Fault,
    FaultClass,
    Link,
    LinkKind,
    Preference,
    ResourceName,
)
from deviceplugin.placement.layout import (
    WHOLE,
    _fragmentation_costs,
    _interchangeable,
    layout_of,
    loads_of,
)
from deviceplugin.placement.narrow import narrow, shared
from deviceplugin.placement.policies import proximity_ranks, turns
from deviceplugin.placement.prefer import prefer
from deviceplugin.placement.problem import Problem, prepare, value_of
from deviceplugin.placement.search import _improve
from deviceplugin.placement.topology import (
    BOARD,
    HOST_BRIDGE,
    NO_LEVEL,
    NUMA_NODE,
    SWITCH,
    SWITCHES,
    SYSTEM,
    UNKNOWN,
    PciTopology,
    Place,
    Topology,
    distance,
    pcie_level,
    topology_of,
)
from deviceplugin.placement.view import Context, view_of
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import NAME, Box
from tests.placement.test_choices import PARTS, PATHS, WHOLE_GPUS, by_gpu, free, g
from tests.placement.test_explain import BOXES, explained
from tests.resources.builders import gpu, inventory, sharing


def ranks(box: Box, *must: str) -> list[float]:
    included = frozenset(map(AdvertisedID, must))
    asked = Preference(available=frozenset(box.ids), must_include=included, size=3)
    return [rank[1] for rank in proximity_ranks(view_of(box.resource, asked, box.context))]


def test_proximity_counts_the_way_to_each_gpu_that_must_be_in() -> None:
    box = Box(boxes.pcie_only(8), PciTopology(paths=PATHS))
    assert ranks(box) == [0] * 8
    assert ranks(box, "g06") == [50, 50, 50, 50, 40, 40, 0, 10]
    assert ranks(box, "g06", "g00") == [50, 60, 90, 90, 90, 90, 50, 60]


def test_what_is_nowhere_is_far_from_everything() -> None:
    box = Box(boxes.unlinked(3))
    assert ranks(box, "g01") == [NO_LEVEL, 0, NO_LEVEL]
    unplaced = replace(box.context.topology, places=MappingProxyType({}))
    asked = Preference(available=frozenset(box.ids), must_include=frozenset({box.ids[1]}), size=2)
    view = view_of(box.resource, asked, Context(topology=unplaced))
    assert [rank[1] for rank in proximity_ranks(view)] == [NO_LEVEL, 0, NO_LEVEL]


def test_proximity_prefers_the_way_to_the_nic_to_that_between_gpus() -> None:
    nic = Place(path="/sys/devices/pci0000:00/s/n/eth")
    box = Box(boxes.pcie_only(8), PciTopology(paths=PATHS, nic=nic))
    assert box.ask(3, must=["g06"], policy="proximity") == g(0, 1, 6)


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("pci0000:00/a/b/c", "pci0000:00/a/b/d", BOARD),
        ("pci0000:00/a/b/c", "pci0000:00/a/d/c", SWITCH),
        ("pci0000:00/a/b/c/d", "pci0000:00/a/e/c/d", SWITCHES),
        ("pci0000:00/a", "pci0000:00/b", HOST_BRIDGE),
        ("/sys/devices/pci0000:00/a/b", "pci0000:00/a/c", BOARD),
        ("pci0000:00/a", "pci0000:80/a", NUMA_NODE),
    ],
)
def test_a_level_is_where_the_paths_part(one: str, other: str, level: int) -> None:
    assert pcie_level(Place(path=one, numa_node=0), Place(path=other, numa_node=0)) == level


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [(0, 0, NUMA_NODE), (0, 1, SYSTEM), (None, 1, NO_LEVEL), (0, None, NO_LEVEL)],
)
def test_without_paths_a_level_is_what_the_numa_nodes_tell(
    one: int | None, other: int | None, level: int
) -> None:
    assert pcie_level(Place(numa_node=one), Place(numa_node=other)) == level


def link(kind: str, **values: int) -> Link:
    return Link(peer=DeviceID("x"), kind=kind, **values)


@pytest.mark.parametrize(
    ("links", "numa", "cost", "relation"),
    [
        ([], 0, 36000, "same NUMA node"),
        ([], None, UNKNOWN, "unknown"),
        ([link(LinkKind.PCIE, weight=10)], 0, 24000, "same PCIe switch"),
        ([link(LinkKind.PCIE, weight=11)], 0, 28000, "PCIe switches"),
        ([link(LinkKind.PCIE, weight=72)], None, 40000, "across sockets"),
        ([link(LinkKind.NVLINK, width=4)], 0, 3204, "NVLINK ×4"),
        ([link(LinkKind.NVLINK, width=4)], None, 3206, "NVLINK ×4"),
        ([link(LinkKind.NVLINK, width=1), link(LinkKind.NVLINK, width=9)], 0, 2004, "NVLINK ×9"),
        ([link(LinkKind.XGMI, weight=15)], 0, 1504, "XGMI weight 15"),
        ([link(LinkKind.XGMI, weight=999)], 0, 15004, "XGMI weight 999"),
        ([link("acme", cost=300)], 0, 30004, "acme ×1"),
        ([link("acme", cost=900)], 0, 36000, "same NUMA node"),
        ([link("acme", cost=9000)], None, 100_000, "unknown"),
        ([link("acme", cost=0)], 0, 104, "acme ×1"),
    ],
)
def test_a_pair_costs_what_its_best_way_does(
    links: list[Link], numa: int | None, cost: int, relation: str
) -> None:
    found = distance(links, Place(numa_node=numa), Place(numa_node=numa))
    if cost == UNKNOWN:
        assert found.cost == cost
    else:
        assert (found.cost, found.relation) == (cost, relation)


def faults(**classes: str) -> dict[DeviceID, tuple[Fault, ...]]:
    return {
        DeviceID(device): tuple(
            Fault(
                device=DeviceID(device),
                source="example.x",
                code=f"c{number}",
                kind=FaultClass(kind),
                reason="r",
                action="a",
            )
            for number, kind in enumerate(kinds.split())
        )
        for device, kinds in classes.items()
    }


def test_a_gpu_is_as_bad_as_the_worst_fault_of_it_and_its_parts() -> None:
    devices = boxes.inventory(boxes.parts(boxes.pcie_only(4), 2))
    known = faults(g00="info", g01="hardware app", g02="warn") | {
        DeviceID("g02.0"): faults(x="reset")[DeviceID("x")],
        DeviceID("g03.1"): faults(x="info")[DeviceID("x")],
        DeviceID("gone"): faults(x="app")[DeviceID("x")],
    }
    sick = replace(devices, faults=MappingProxyType(known))
    assert topology_of(sick, PciTopology()).severity == {
        "g00": 0,
        "g01": 6,
        "g02": 4,
        "g03": 0,
        "gone": 1,
    }


@pytest.mark.parametrize(
    ("severity", "size", "answer"),
    [
        (dict.fromkeys(range(7), 0), 1, g(7)),
        ({n: 7 - n for n in range(8)}, 1, g(7)),
        ({0: 1, 1: 0, 4: 0}, 4, g(2, 3, 6, 7)),
        ({n: 1 if n < 6 else 2 for n in range(8)}, 1, g(0)),
    ],
    ids=["the only one without", "the least", "those without first", "alike"],
)
def test_of_gpus_alike_in_priority_the_healthiest_is_first(
    severity: dict[int, int], size: int, answer: tuple[str, ...]
) -> None:
    known: dict[DeviceID, int] = {DeviceID(f"g{n:02d}"): rank for n, rank in severity.items()}
    topology = replace(WHOLE_GPUS.context.topology, severity=known)
    found = WHOLE_GPUS.ask(size, policy="priority", context=Context(topology=topology))
    assert found == answer


@pytest.mark.parametrize(
    ("readings", "available", "answer"),
    [
        (
            {
                0: Reading(throttled=None, temperature_c=10.0),
                1: Reading(throttled=False, temperature_c=90.0),
            },
            [0, 1],
            1,
        ),
        (
            {
                0: Reading(throttled=True, temperature_c=5.0),
                1: Reading(throttled=None, temperature_c=90.0),
            },
            [0, 1],
            1,
        ),
        (
            {0: Reading(throttled=False), 1: Reading(throttled=False, temperature_c=99.0)},
            [0, 1],
            1,
        ),
        ({0: Reading(throttled=True, temperature_c=5.0)}, [0, 1], 1),
    ],
    ids=[
        "not throttled before unknown",
        "unknown before throttled",
        "hot before unknown",
        "nothing known before throttled",
    ],
)
def test_what_is_unknown_of_a_gpu_is_worse_than_what_is_known_and_better_than_bad(
    readings: dict[int, Reading], available: list[int], answer: int
) -> None:
    context = replace(WHOLE_GPUS.context, readings=by_gpu(readings))
    found = WHOLE_GPUS.ask(1, g(*available), policy="real_time", context=context)
    assert found == g(answer)


@pytest.mark.parametrize(
    ("policy", "size", "must", "answer"),
    [
        ("spread", 4, "0:01", "0:01 2:0 3:0"),
        ("spread", 6, "0:01", "0:01 1:0 2:01 3:0"),
        ("spread", 5, "3:012", "0:0 1:0 3:012"),
        ("fair_share", 4, "0:01", "0:01 1:0 2:0"),
        ("fair_share", 6, "0:01", "0:01 1:01 2:0 3:0"),
        ("fair_share", 5, "3:012", "0:0 1:0 3:012"),
    ],
)
def test_what_must_be_in_counts_as_in_use_of_its_gpu(
    policy: str, size: int, must: str, answer: str
) -> None:
    assert PARTS.ask(size, must=free(must), policy=policy) == free(answer)


def test_turns_go_round_from_the_one_after_the_last() -> None:
    gpus = [DeviceID(name) for name in "abcd"]
    assert turns(gpus, None) == [0, 1, 2, 3]
    assert turns(gpus, DeviceID("b")) == [2, 3, 0, 1]
    assert turns(gpus, DeviceID("d")) == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [1, 2, 4, 7])
def test_a_part_is_its_share_of_the_gpu(number: int) -> None:
    box = Box(boxes.parts(boxes.pcie_only(2), number))
    shares = box.context.layout(box.resource).share
    assert shares == (WHOLE // number,) * 2


def test_a_part_is_its_share_of_the_memory_where_others_are_not_listed() -> None:
    box = Box(boxes.parts(boxes.unlinked(1), 4))
    half = replace(box.resource, devices=box.resource.devices[:2])
    assert layout_of(half, box.context.topology).share == (WHOLE // 4,)
    devices = {
        device.id: replace(device, memory_bytes=None) if device.id == "g00.0" else device
        for device in box.inventory.devices.values()
    }
    unsure = replace(box.context.topology, devices=devices)
    assert layout_of(half, unsure).share == (WHOLE // 2,)
    without = {i: device for i, device in box.inventory.devices.items() if i != "g00.0"}
    assert layout_of(half, replace(unsure, devices=without)).share == (WHOLE // 2,)


def test_parts_that_claim_more_than_the_gpu_has_are_all_of_it() -> None:
    box = Box(boxes.parts(boxes.unlinked(1), 2))
    devices = {
        i: replace(d, memory_bytes=100 << 30) if d.parent else d
        for i, d in box.inventory.devices.items()
    }
    topology = replace(box.context.topology, devices=devices)
    assert layout_of(box.resource, topology).share == (WHOLE // 2,)


def test_the_cost_of_what_stays_free_weighs_each_nearer_relation_eight_times() -> None:
    assert _fragmentation_costs(((0, 100, 900), (100, 0, 900), (900, 900, 0))) == (
        (0, 512 - 64, 512 - 8),
        (512 - 64, 0, 512 - 8),
        (512 - 8, 512 - 8, 0),
    )
    (many,) = _fragmentation_costs((tuple(range(10)),))
    assert many == tuple(8**8 - 8 ** (8 - n * 8 // 10) for n in range(10))


@pytest.mark.parametrize(
    ("costs", "numbers"),
    [
        (((0, 1, 2), (1, 0, 2), (2, 2, 0)), (0, 0, 2)),
        (((0, 2, 1), (2, 0, 2), (1, 2, 0)), (0, 1, 0)),
        (((0, 2, 2), (2, 0, 1), (2, 1, 0)), (0, 1, 1)),
        (((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)), (0, 1, 2, 3)),
        (((0, 1, 1), (1, 0, 1), (1, 1, 0)), (0, 0, 0)),
    ],
    ids=["first two", "ends", "last two", "none", "all"],
)
def test_gpus_are_interchangeable_that_are_the_same_to_all_others(
    costs: tuple[tuple[int, ...], ...], numbers: tuple[int, ...]
) -> None:
    assert _interchangeable(costs) == numbers


def test_a_resource_that_is_not_laid_out_hides_no_load_of_others() -> None:
    layout = PARTS.context.layout(PARTS.resource)
    unknown = ResourceName("example.com/other")
    held = {unknown: [AdvertisedID("g00.0")], NAME: [AdvertisedID("g01.1"), AdvertisedID("g01.2")]}
    assert loads_of(held, {NAME: layout}) == {"g01": WHOLE // 2}
    twice = {NAME: list(layout.position), unknown: list(layout.position)}
    assert set(loads_of(twice, {NAME: layout, unknown: layout}).values()) == {WHOLE}


def test_a_layout_is_kept_while_list_and_topology_are_the_same() -> None:
    prepared = PARTS.context.layout(PARTS.resource)
    assert PARTS.context.layout(PARTS.resource) is prepared
    other = Topology(gpus=("g00", "g01"))  # type: ignore[arg-type]  # ids
    assert replace(PARTS.context, topology=other).layout(PARTS.resource).topology is other
    newer = replace(PARTS.resource, devices=PARTS.resource.devices[:3])
    assert PARTS.context.layout(newer).listed == ("g00.0", "g00.1", "g00.2")


@pytest.mark.parametrize(
    ("box", "policy", "size", "score"),
    [
        # Two on one switch, 100 * (200 + 4 * 10) each way; the policy weighs nothing here.
        ("parts", "fair_share", 2, (0, 24000, 35392)),
        # The second of one GPU finds a quarter of it in use: 250 thousandths.
        ("parts", "spread", 5, (250, 312_000, 21840)),
        ("parts", "spread", 2, (0, 40000, 35448)),
        # Turns 0, 1, 2 and 3, and the first again after all four.
        ("parts", "round_robin", 5, (0 + 1 + 2 + 3 + 4, 312_000, 21840)),
        ("parts", "packed", 5, (0, 96000, 19264)),
        ("pairs", "aligned", 2, (0, 3204, 191_856)),
        ("pairs", "round_robin", 2, (1, 3204, 191_856)),
        ("mi210", "aligned", 2, (0, 1504, 7168)),
    ],
)
def test_a_choice_is_explained_by_its_figures(
    box: str, policy: str, size: int, score: tuple[int, int, int]
) -> None:
    chosen = explained(BOXES[box], size, policy)["chosen"]
    assert tuple(chosen["score"].values()) == score


def test_a_priority_is_explained_by_the_place_of_each_rank() -> None:
    box = BOXES["pairs"]
    order = {DeviceID("g02"): 0, DeviceID("g05"): 1}
    known = Box.prepared(box.resource, box.context)
    changed = Box(boxes.nvlink_pairs(6))
    changed.context = replace(known, order=order)
    chosen = explained(changed, 3, "priority")["chosen"]
    assert chosen["ids"][-1] == "g05"
    assert chosen["score"]["policy"] == 0 + 1 + 2
    assert [(gpu["gpu"], gpu["numa_node"], gpu["count"]) for gpu in chosen["gpus"]][-1] == (
        "g05",
        1,
        1,
    )


def test_a_choice_says_what_is_in_use_of_its_gpus_before() -> None:
    box = Box(boxes.parts(boxes.pcie_only(4), 4))
    box.context = replace(box.context, loads=by_gpu({0: WHOLE // 4, 1: WHOLE // 8}))
    chosen = explained(box, 8, "packed")["chosen"]
    assert {gpu["gpu"]: gpu["in_use_before_percent"] for gpu in chosen["gpus"]} == {
        "g00": 25.0,
        "g01": 12.5,
    }
    assert {gpu["gpu"]: gpu["pci_address"] for gpu in chosen["gpus"]} == {
        "g00": "0000:10:00.0",
        "g01": "0000:11:00.0",
    }


NODE = inventory(gpu(0, 8), gpu(1, 8), gpu(2, 8))
SLICES = shared(
    sharing({"offers": [{"memory": {}}]})
    .plan(NODE)
    .resources[ResourceName("nvidia.com/gpu-memory")]
)


def slices(text: str) -> frozenset[AdvertisedID]:
    """`0:01 2:3`: those of GPU 0 and GPU 2 by number."""
    return frozenset(
        AdvertisedID(f"{gpu(int(index)).id}-m{number}")
        for index, _, numbers in (word.partition(":") for word in text.split())
        for number in numbers
    )


@pytest.mark.parametrize(
    ("available", "must", "size", "answer"),
    [
        ("0:0123 1:01 2:012", "", 2, "1:01"),
        ("0:0123 1:01 2:012", "", 3, "2:012"),
        ("0:0123 1:01 2:012", "", 4, "0:0123"),
        ("0:0123 1:01 2:012", "", 5, "0:0123 1:0"),
        ("0:0123 1:01 2:012", "", 6, "0:0123 1:01"),
        ("0:0123 1:01 2:012", "2:1", 2, "2:01"),
        ("0:0123 1:01 2:012", "2:1", 4, "2:012 1:0"),
        ("0:0123 1:01 2:012", "1:1 2:1", 3, "1:01 2:1"),
        ("0:0123 1:01 2:012", "", 9, "0:0123 1:01 2:012"),
        ("0:0123 1:01 2:012", "", 10, "0:0123 1:01 2:012"),
    ],
)
def test_slices_come_from_as_few_gpus_as_possible_and_the_fullest(
    available: str, must: str, size: int, answer: str
) -> None:
    asked = Preference(available=slices(available), must_include=slices(must), size=size)
    assert narrow(SLICES, asked).available == slices(answer)


def test_spread_slices_come_from_the_emptiest_gpu() -> None:
    listed = replace(SLICES, resource=replace(SLICES.resource, policy="spread"))
    asked = Preference(available=slices("0:012 1:0123 2:01"), must_include=slices(""), size=2)
    assert narrow(listed, asked).available == slices("1:01")


@pytest.mark.parametrize(
    ("must", "size", "answer"),
    [
        ("g03 g01", 0, ()),
        ("g03 g01", -1, ()),
        ("g03 g01", 1, g(1)),
        ("g03 g01", 2, g(1, 3)),
        ("", 0, ()),
    ],
)
def test_a_size_below_the_must_include_set_is_kept(
    must: str, size: int, answer: tuple[str, ...]
) -> None:
    included = frozenset(map(AdvertisedID, must.split()))
    asked = Preference(available=frozenset(WHOLE_GPUS.ids), must_include=included, size=size)
    assert prefer(WHOLE_GPUS.resource, asked, WHOLE_GPUS.context) == answer


@pytest.mark.parametrize(
    ("box", "size", "answer"),
    [(PARTS, 3, free("0:012")), (WHOLE_GPUS, 2, g(0, 1))],
    ids=["parts are packed", "whole GPUs are aligned"],
)
def test_without_a_policy_the_kind_of_resource_decides(
    box: Box, size: int, answer: tuple[str, ...]
) -> None:
    asked = Preference(available=frozenset(box.ids), must_include=frozenset(), size=size)
    assert prefer(box.resource, asked, box.context) == answer


def test_an_exchange_makes_the_most_of_a_bad_choice() -> None:
    """What is left to do where the search runs out of steps."""
    layout = BOXES["pairs"].context.layout(BOXES["pairs"].resource)
    free_counts = (1,) * 6
    problem = Problem(
        costs=layout.costs,
        fragmentation_costs=layout.fragmentation_costs,
        interchangeable=layout.interchangeable,
        free=free_counts,
        limits=free_counts,
        must=(0, 0, 0, 1, 0, 0),
        size=2,
    )
    best = prepare(problem, 0)
    far = (1, 0, 0, 1, 0, 0)
    best.offer(far, value_of(best, far))
    _improve(best)
    assert best.counts == (0, 0, 1, 1, 0, 0)
    assert best.value == value_of(best, best.counts) < value_of(best, far)
