"""What each policy goes by, as numbers: lower is better."""

from collections.abc import Mapping
from math import inf

import pytest
from msgspec.structs import replace

from deviceplugin.model import (
    AdvertisedID,
    DeviceID,
    Fault,
    FaultClass,
    Preference,
    ResourceName,
    Share,
)
from deviceplugin.placement.layout import WHOLE, layout_of, loads_of
from deviceplugin.placement.narrow import narrow, shared
from deviceplugin.placement.policies import (
    last_handed_out,
    packed_ranks,
    priority_ranks,
    proximity_ranks,
    real_time_ranks,
    turns,
    used_after,
)
from deviceplugin.placement.prefer import default_policy, plain, prefer
from deviceplugin.placement.topology import (
    NO_LEVEL,
    PciTopology,
    Place,
    Topology,
    topology_of,
)
from deviceplugin.placement.view import Context, View, view_of
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import NAME, Box

GPUS = Box(boxes.pcie_only(8))
PARTS = Box(boxes.parts(boxes.pcie_only(4), 4))
DEVICES = tuple(map(DeviceID, "abc"))
A, B, C = DEVICES


def view(
    box: Box,
    size: int = 1,
    must: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    context: Context | None = None,
) -> View:
    """A question with everything free but what `without` names."""
    available = frozenset(box.ids) - set(map(AdvertisedID, without))
    asked = Preference(
        available=available, must_include=frozenset(map(AdvertisedID, must)), size=size
    )
    return view_of(box.resource, asked, context or box.context)


def test_proximity_is_the_pcie_level_to_all_gpus_that_must_be_included() -> None:
    # pcie_only: two GPUs on each switch, four on each socket; no paths, so NUMA nodes decide.
    ranks = proximity_ranks(view(GPUS, 4, must=("g00", "g05")))
    assert ranks == [
        (NO_LEVEL, 0 + 50),
        (NO_LEVEL, 40 + 50),
        (NO_LEVEL, 40 + 50),
        (NO_LEVEL, 40 + 50),
        (NO_LEVEL, 50 + 40),
        (NO_LEVEL, 50 + 0),
        (NO_LEVEL, 50 + 40),
        (NO_LEVEL, 50 + 40),
    ]


def test_proximity_to_a_gpu_of_no_known_place_is_the_worst() -> None:
    topology = GPUS.context.topology
    places = {gpu: place for gpu, place in topology.places.items() if gpu != "g03"}
    context = replace(GPUS.context, topology=replace(topology, places=places))
    ranks = proximity_ranks(view(GPUS, 3, must=("g00",), context=context))
    assert ranks[:5] == [(60, 0), (60, 40), (60, 40), (60, 60), (60, 50)]
    ranks = proximity_ranks(view(GPUS, 3, must=("g03",), context=context))
    assert ranks[2:4] == [(60, 60), (60, 0)]


def test_proximity_to_a_nic_is_the_level_of_the_way_to_it() -> None:
    box = Box(boxes.pcie_only(4), PciTopology(nic=Place(numa_node=1)))
    assert proximity_ranks(view(box)) == [(50, 0), (50, 0), (40, 0), (40, 0)]


def test_priority_is_the_place_of_the_selector_then_the_worst_fault() -> None:
    devices = boxes.pcie_only(4)
    kinds = {"g01": [FaultClass.WARN], "g02": [FaultClass.WARN, FaultClass.HARDWARE], "g03": []}
    faults = {
        DeviceID(gpu): tuple(
            Fault(device=DeviceID(gpu), source="s", code=kind, reason="r", kind=kind)
            for kind in of_gpu
        )
        for gpu, of_gpu in kinds.items()
        if of_gpu
    }
    node = replace(boxes.inventory(devices), faults=faults)
    box = Box(devices)
    topology = topology_of(node, PciTopology())
    order = {DeviceID("g03"): 0, DeviceID("g02"): 4}
    ranks = priority_ranks(view(box, context=Context(topology=topology, order=order)))
    assert [place for place, _ in ranks] == [6, 6, 4, 0]
    healthy, warned, broken, first = (severity for _, severity in ranks)
    assert healthy == first == -1 < warned < broken
    assert box.ask(1, policy="priority", context=Context(topology=topology)) == ("g00",)
    assert box.ask(1, ["g01", "g02"], policy="priority", context=Context(topology=topology)) == (
        "g01",
    )


def test_a_partitions_fault_counts_for_its_gpu_and_the_worst_of_them_all() -> None:
    devices = boxes.parts(boxes.pcie_only(2), 2)
    faults = {
        DeviceID(name): (Fault(device=DeviceID(name), source="s", code="c", reason="r", kind=kind),)
        for name, kind in (("g01.0", FaultClass.HARDWARE), ("g01.1", FaultClass.WARN))
    }
    alone = {"g01.0": faults[DeviceID("g01.0")]}
    both = topology_of(replace(boxes.inventory(devices), faults=faults), PciTopology())
    one = topology_of(replace(boxes.inventory(devices), faults=alone), PciTopology())
    assert both.severity == one.severity
    assert set(both.severity) == {"g01"}


@pytest.mark.parametrize(
    ("reading", "rank"),
    [
        (Reading(throttled=False, temperature_c=70.0), (0, 70.0)),
        (Reading(throttled=False), (0, inf)),
        (Reading(temperature_c=30.0), (1, 30.0)),
        (Reading(throttled=True, temperature_c=20.0), (2, 20.0)),
        (Reading(), (1, inf)),
    ],
)
def test_real_time_goes_by_use_then_throttling_then_temperature(
    reading: Reading, rank: tuple[int, float]
) -> None:
    context = replace(GPUS.context, readings={DeviceID("g02"): reading})
    ranks = real_time_ranks(view(GPUS, without=("g03",), context=context))
    assert ranks[2] == (0, *rank)
    assert ranks[1] == (0, 1, inf)
    assert ranks[3] == (WHOLE, 1, inf)


def test_packed_goes_by_room_then_use_then_the_use_of_the_socket() -> None:
    quarter = WHOLE // 4
    asked = view(PARTS, 3, without=("g00.0", "g00.1", "g03.0"))
    assert packed_ranks(asked) == [
        (True, -2 * quarter, -2 * quarter),
        (False, 0, -2 * quarter),
        (False, 0, -quarter),
        (False, -quarter, -quarter),
    ]


def test_packed_cannot_serve_a_request_whose_must_is_on_another_gpu() -> None:
    asked = view(PARTS, 2, must=("g01.0",))
    assert [rank[0] for rank in packed_ranks(asked)] == [True, False, True, True]


def test_use_after_a_choice_is_what_was_in_use_and_what_it_takes() -> None:
    quarter = WHOLE // 4
    asked = view(PARTS, 1, without=("g00.0",))
    assert used_after(asked, (1, 0, 2, 0)) == [2 * quarter, 0, 2 * quarter, 0]


def test_turns_begin_after_the_last_one_and_at_the_first_where_it_is_unknown() -> None:
    assert turns(DEVICES, A) == [2, 0, 1]
    assert turns(DEVICES, C) == [0, 1, 2]
    assert turns(DEVICES, None) == turns(DEVICES, DeviceID("gone")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("last", "given", "stands_at"),
    [
        (None, {A, C}, C),
        (A, {A, B}, A),
        (B, {A, C}, A),
        (B, set(), B),
        (None, {DeviceID("x")}, None),
    ],
    ids=["first round", "round the end", "the later in turn", "nothing given", "another's"],
)
def test_the_rotation_stands_at_the_last_one_in_turn(
    last: DeviceID | None, given: set[DeviceID], stands_at: DeviceID | None
) -> None:
    assert last_handed_out(DEVICES, last, given) == stands_at


# Layouts and loads


def test_a_list_of_partitions_that_are_a_part_of_a_gpus_memory_takes_that_part() -> None:
    whole, *parts = boxes.parts(boxes.unlinked(1), 4)
    box = Box([whole, *parts[:2]])  # two quarters are listed: half of the GPU
    assert box.context.layout(box.resource).share == (WHOLE // 4,)
    known = replace(whole, memory_bytes=None)
    assert Box([known, *parts[:2]]).context.layout(box.resource).share == (WHOLE // 2,)


def test_partitions_of_different_sizes_share_their_part_evenly() -> None:
    whole, one, other, *_ = boxes.parts(boxes.unlinked(1), 4)
    box = Box([whole, one, replace(other, memory_bytes=40 << 30)])
    assert box.context.layout(box.resource).share == (WHOLE * 60 // 80 // 2,)


def test_partitions_of_unknown_memory_share_the_gpu_evenly() -> None:
    whole, one, other, *_ = boxes.parts(boxes.unlinked(1), 4)
    box = Box([whole, one, replace(other, memory_bytes=None)])
    assert box.context.layout(box.resource).share == (WHOLE // 2,)


def test_partitions_that_claim_more_than_their_gpu_has_take_no_more_than_all_of_it() -> None:
    whole, one, *_ = boxes.parts(boxes.unlinked(1), 4)
    box = Box([whole, replace(one, memory_bytes=160 << 30)])
    assert box.context.layout(box.resource).share == (WHOLE,)


def test_a_resource_that_is_held_and_not_served_hides_no_other_ones_load() -> None:
    layout = PARTS.context.layout(PARTS.resource)
    held = {
        ResourceName("example.com/a"): [AdvertisedID("g00.0")],
        NAME: [AdvertisedID("g01.0"), AdvertisedID("g01.1")],
    }
    assert loads_of(held, {NAME: layout}) == {"g01": WHOLE // 2}


def test_a_gpu_that_several_resources_have_is_in_use_once_at_most() -> None:
    layout = layout_of(GPUS.resource, GPUS.context.topology)
    held = {name: [AdvertisedID("g01")] for name in (NAME, ResourceName("example.com/a"))}
    loads = loads_of(held, {NAME: layout, ResourceName("example.com/a"): layout})
    assert loads == {"g01": WHOLE}


def test_the_ledger_and_the_kubelet_may_each_know_of_more_use() -> None:
    context = replace(PARTS.context, loads={DeviceID("g00"): 1, DeviceID("g01"): WHOLE})
    asked = view(PARTS, 1, without=("g00.0", "g01.0"), context=context)
    assert asked.load == (WHOLE // 4, WHOLE, 0, 0)


def test_gpus_are_interchangeable_where_exchanging_them_changes_no_cost() -> None:
    def interchangeable(box: Box) -> tuple[int, ...]:
        return box.context.layout(box.resource).interchangeable

    assert interchangeable(GPUS) == (0, 0, 2, 2, 4, 4, 6, 6)
    assert interchangeable(Box(boxes.mi210())) == (0, 0, 0, 0, 4, 4, 4, 4)
    assert interchangeable(Box(boxes.unlinked(3))) == (0, 0, 0)


def test_what_stays_free_is_compared_by_how_near_it_is() -> None:
    costs = Box(boxes.pcie_only(4)).context.layout(Box(boxes.pcie_only(4)).resource)
    near, far = costs.fragmentation_costs[0][1], costs.fragmentation_costs[0][2]
    assert (costs.fragmentation_costs[0][0], near, far) == (0, 8**3 - 8**2, 8**3 - 8)


def test_a_layout_that_was_prepared_for_another_topology_or_list_is_made_anew() -> None:
    prepared = PARTS.context.layout(PARTS.resource)
    assert PARTS.context.layouts[NAME] is prepared
    other = replace(PARTS.context, topology=Topology())
    assert other.layout(PARTS.resource).topology is other.topology
    fewer = replace(PARTS.resource, devices=PARTS.resource.devices[:2])
    assert len(PARTS.context.layout(fewer).listed) == 2


# prefer


def answers(*ids: str) -> Mapping[str, tuple[AdvertisedID, ...]]:
    return {"ids": tuple(map(AdvertisedID, ids))}


@pytest.mark.parametrize(
    ("answer", "must", "expected"),
    [
        (("g05", "g04"), (), ("g04", "g05")),
        (("g05", "gone", "g04"), (), ("g04", "g05")),
        (("g05", "g05", "g04", "g01"), (), ("g04", "g05")),
        (("g05", "g04"), ("g02",), ("g02", "g05")),
        (("g02", "g04"), ("g02",), ("g02", "g04")),
        (("g07",), (), ("g00", "g07")),
        ((), (), ("g00", "g01")),
    ],
    ids=["as it is", "foreign", "too many", "without must", "with must", "too few", "none"],
)
def test_whatever_a_policy_answers_only_what_was_offered_leaves(
    answer: tuple[str, ...], must: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    offered = frozenset(GPUS.ids) - {AdvertisedID("gone")}
    asked = Preference(available=offered, must_include=frozenset(map(AdvertisedID, must)), size=2)
    ids = answers(*answer)["ids"]
    assert prefer(GPUS.resource, asked, GPUS.context, lambda *_: ids) == expected


def test_ids_that_are_not_listed_are_taken_last() -> None:
    asked = Preference(
        available=frozenset(map(AdvertisedID, ["a-new-one", "g06", "g07"])),
        must_include=frozenset(),
        size=2,
    )
    assert prefer(GPUS.resource, asked, GPUS.context, lambda *_: ()) == ("g06", "g07")
    assert plain(GPUS.resource, asked, GPUS.context) == ("g06", "g07")
    all_of_them = replace(asked, size=3)
    assert plain(GPUS.resource, all_of_them, GPUS.context) == ("a-new-one", "g06", "g07")


def test_plain_has_what_must_be_included_and_the_first_others() -> None:
    must = frozenset({AdvertisedID("g05")})
    asked = Preference(available=frozenset(GPUS.ids), must_include=must, size=3)
    assert plain(GPUS.resource, asked, GPUS.context) == ("g00", "g01", "g05")


def test_more_that_must_be_included_than_is_asked_for_is_cut() -> None:
    must = frozenset(map(AdvertisedID, ["g05", "g03", "g04"]))
    asked = Preference(available=frozenset(GPUS.ids), must_include=must, size=2)
    assert prefer(GPUS.resource, asked, GPUS.context) == ("g03", "g04")
    assert prefer(GPUS.resource, replace(asked, size=-1), GPUS.context) == ()


def test_whole_gpus_are_aligned_and_parts_are_packed() -> None:
    assert default_policy(GPUS.context.layout(GPUS.resource)) == "aligned"
    assert default_policy(PARTS.context.layout(PARTS.resource)) == "packed"


def no_policy(*_: object) -> tuple[AdvertisedID, ...]:
    raise AssertionError("there is nothing to choose")


@pytest.mark.parametrize(
    ("available", "must", "size"),
    [(("g00", "g01"), ("g05",), 1), (("g00", "g01"), (), 2), (("g00", "g01"), ("g05",), 3)],
    ids=["must is enough", "all are needed", "all and must"],
)
def test_where_nothing_is_to_be_chosen_no_policy_is_asked(
    available: tuple[str, ...], must: tuple[str, ...], size: int
) -> None:
    asked = Preference(
        available=frozenset(map(AdvertisedID, available)),
        must_include=frozenset(map(AdvertisedID, must)),
        size=size,
    )
    answer = prefer(GPUS.resource, asked, GPUS.context, no_policy)
    assert answer == tuple(sorted({*must, *(available if size > 1 else ())}))


def test_a_question_with_ids_that_sharing_does_not_know_stays_as_it_is() -> None:
    resource, _ = boxes.replicated(boxes.pcie_only(2), 2)
    cut = replace(
        resource,
        devices=tuple(replace(entry, share=Share(count=2)) for entry in resource.devices),
    )
    known = frozenset(entry.id for entry in cut.devices)
    asked = Preference(available=known | {AdvertisedID("new")}, must_include=frozenset(), size=5)
    assert narrow(shared(cut), asked) == asked
    assert narrow(shared(cut), replace(asked, size=2)).available < asked.available


def test_a_replica_that_must_be_included_counts_as_much_as_one_that_is_chosen() -> None:
    resource, _ = boxes.replicated(boxes.pcie_only(2), 4)
    cut = replace(
        resource,
        devices=tuple(replace(entry, share=Share(count=4)) for entry in resource.devices),
    )
    asked = Preference(
        available=frozenset(entry.id for entry in cut.devices),
        must_include=frozenset({AdvertisedID("g01::0")}),
        size=3,
    )
    assert narrow(shared(cut), asked).available == {"g01::0", "g00::0", "g00::1"}


def test_gpus_are_in_the_order_of_their_pci_addresses() -> None:
    one, other = boxes.unlinked(2)
    swapped = [replace(one, pci_address=other.pci_address), replace(other, pci_address=None)]
    topology = topology_of(boxes.inventory(swapped), PciTopology())
    assert topology.gpus == ("g01", "g00")
