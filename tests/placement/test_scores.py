"""The scores of `explain`, against what they say they are, counted one id at a time."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.model import AdvertisedID, DeviceID, Preference
from deviceplugin.placement.explain import Question, explain
from deviceplugin.placement.layout import WHOLE
from deviceplugin.placement.prefer import BUILT_IN
from deviceplugin.placement.view import Context
from tests.placement import boxes
from tests.placement.boxes import NAME, Box

PAIRS = Box(boxes.nvlink_pairs(6))
PARTS = Box(boxes.parts(boxes.pcie_only(4), 4))


def explained(
    box: Box, size: int, policy: str, without: tuple[str, ...] = (), context: Context | None = None
) -> dict[str, Any]:
    available = frozenset(box.ids) - set(map(AdvertisedID, without))
    return explain(
        Question(
            resource=box.resource,
            preference=Preference(available=available, must_include=frozenset(), size=size),
            context=context or box.context,
            name=policy,
            policy=BUILT_IN[policy],
        )
    )


def between(box: Box, ids: Sequence[str], *, fragmentation: bool) -> int:
    """The cost of every pair of ids that are of two GPUs."""
    layout = box.context.layout(box.resource)
    costs = layout.fragmentation_costs if fragmentation else layout.costs
    places = [layout.position[AdvertisedID(i)] for i in ids]
    return sum(costs[a][b] for a, b in combinations(places, 2) if a != b)


@pytest.mark.parametrize("policy", BUILT_IN)
@pytest.mark.parametrize(("box", "size"), [(PAIRS, 3), (PARTS, 5)], ids=["GPUs", "parts"])
def test_links_are_the_cost_of_the_choice_and_rest_that_of_what_it_leaves(
    box: Box, size: int, policy: str
) -> None:
    shown = explained(box, size, policy, without=(box.ids[3],))
    choices = [shown["chosen"], *shown["runners_up"]]
    for choice in choices:
        left = [i for i in box.ids if i not in (*choice["ids"], box.ids[3])]
        assert choice["score"]["links"] == between(box, choice["ids"], fragmentation=False)
        assert choice["score"]["rest"] == between(box, left, fragmentation=True)


@pytest.mark.parametrize(
    ("policy", "size", "without", "score"),
    [
        # All alike: 0.
        ("aligned", 3, (), 0),
        # The third and fourth quarter of a GPU, at 0 then 250 thousandths each turn.
        ("spread", 5, (), 250),
        ("spread", 9, (), 250 * 3 + (250 + 500)),
        # Two quarters of g00 are in use: the choice leaves it alone.
        ("spread", 3, ("g00.0", "g00.1"), 0),
        ("fair_share", 5, (), 250),
        # Turns 0 to 3, and 0 again in the next round.
        ("round_robin", 5, (), (0 + 1 + 2 + 3) + (4 + 0)),
        ("round_robin", 9, (), (0 + 1 + 2 + 3) + (4 + 5 + 6 + 7) + 8),
        # The ranks of unused GPUs come first, g00 with its use second.
        ("real_time", 2, ("g00.0",), 0),
        ("real_time", 13, ("g00.0",), 1),
        ("packed", 1, ("g01.0",), 0),
    ],
)
def test_a_policys_own_score_is_what_it_goes_by(
    policy: str, size: int, without: tuple[str, ...], score: int
) -> None:
    assert explained(PARTS, size, policy, without)["chosen"]["score"]["policy"] == score


def test_turns_are_counted_from_the_last_one() -> None:
    context = replace(PARTS.context, last={NAME: DeviceID("g02")})
    shown = explained(PARTS, 2, "round_robin", context=context)
    assert shown["chosen"]["score"]["policy"] == 0 + 1
    assert [gpu["gpu"] for gpu in shown["chosen"]["gpus"]] == ["g00", "g03"]


def test_a_gpu_is_shown_with_its_place_and_what_was_in_use_before() -> None:
    shown = explained(PARTS, 3, "packed", ("g01.0",))
    assert shown["chosen"]["gpus"] == [
        {
            "gpu": "g01",
            "pci_address": "0000:11:00.0",
            "numa_node": 0,
            "count": 3,
            "in_use_before_percent": 25.0,
        }
    ]
    assert (shown["resource"], shown["policy"], shown["size"]) == (NAME, "packed", 3)
    assert (shown["available"], shown["must_include"]) == (15, [])


def test_use_is_of_the_whole_gpu() -> None:
    context = replace(PARTS.context, loads={DeviceID("g03"): WHOLE // 3})
    shown = explained(PARTS, 1, "packed", context=context)
    assert shown["chosen"]["gpus"][0]["in_use_before_percent"] == 33.3


def test_pairs_of_a_choice_are_counted_by_relation_the_best_first() -> None:
    shown = explained(Box(boxes.nvlink_pairs(8)), 4, "aligned")["chosen"]
    assert shown["ids"] == ["g00", "g01", "g02", "g03"]
    assert list(shown["pairs"].items()) == [("NVLINK ×4", 2), ("same NUMA node", 4)]


def test_runners_up_are_at_most_five_and_none_is_the_choice() -> None:
    shown = explained(Box(boxes.pcie_only(8)), 7, "spread")
    ids = [tuple(choice["ids"]) for choice in (shown["chosen"], *shown["runners_up"])]
    assert len(set(ids)) == len(ids) <= 6


def test_a_gpu_that_no_inventory_has_is_shown_without_a_place() -> None:
    topology = replace(PARTS.context.topology, devices={}, places={})
    shown = explained(PARTS, 1, "packed", context=Context(topology=topology))
    gpu = shown["chosen"]["gpus"][0]
    assert (gpu["gpu"], gpu["pci_address"], gpu["numa_node"]) == ("g00", None, None)
