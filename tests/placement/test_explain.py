"""The command `explain`: the choice, its score, the runners-up."""

from typing import Any

import pytest

from deviceplugin.cli.explain import explanation_text
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.placement.explain import Question, explain
from deviceplugin.placement.prefer import BUILT_IN
from deviceplugin.placement.view import Context
from tests.placement import boxes
from tests.placement.boxes import Box

BOXES = {
    "pairs": Box(boxes.nvlink_pairs(6)),
    "mi210": Box(boxes.mi210()),
    "parts": Box(boxes.parts(boxes.pcie_only(4), 4)),
}


def explained(box: Box, size: int, policy: str, must: tuple[str, ...] = ()) -> dict[str, Any]:
    included = frozenset(map(AdvertisedID, must))
    asked = Preference(available=frozenset(box.ids), must_include=included, size=size)
    return explain(
        Question(
            resource=box.resource,
            preference=asked,
            context=box.context,
            name=policy,
            policy=BUILT_IN[policy],
        )
    )


@pytest.mark.parametrize("policy", BUILT_IN)
@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_runner_up_is_better_than_the_choice(name: str, policy: str, size: int) -> None:
    document = explained(BOXES[name], size, policy)

    def score(choice: dict[str, Any]) -> tuple[int, ...]:
        return tuple(choice["score"].values())

    assert len(document["chosen"]["ids"]) == size
    assert all(len(other["ids"]) == size for other in document["runners_up"])
    scores = [score(other) for other in document["runners_up"]]
    assert scores == sorted(scores)
    if policy not in ("spread", "fair_share"):
        assert all(score(document["chosen"]) <= other for other in scores)
    else:  # of GPUs alike the emptier socket counts, not the links
        assert all(score(document["chosen"])[0] <= other[0] for other in scores)


def test_a_runner_up_shows_what_it_would_cost() -> None:
    document = explained(BOXES["pairs"], 2, "aligned", ("g02",))
    assert document["chosen"]["ids"] == ["g02", "g03"]
    assert document["chosen"]["pairs"] == {"NVLINK ×4": 1}
    assert document["runners_up"][0]["pairs"] == {"same NUMA node": 1}
    assert document["must_include"] == ["g02"]


def test_the_table_names_the_choice_and_the_others() -> None:
    text = explanation_text(explained(BOXES["mi210"], 2, "aligned"))
    assert "example.com/gpu: 2 of 8, policy aligned, must include none" in text
    assert "1 XGMI weight 15" in text
    assert "ids: g00 g01" in text


def theirs(resource: Resource, preference: Preference, _: Context) -> tuple[AdvertisedID, ...]:
    """The last ids."""
    others = sorted(preference.available - preference.must_include, reverse=True)
    return (*preference.must_include, *others)[: preference.size]


def test_a_policy_of_others_has_runners_up_by_what_they_cost() -> None:
    box = BOXES["mi210"]
    asked = Preference(available=frozenset(box.ids), must_include=frozenset({box.ids[5]}), size=2)
    document = explain(
        Question(
            resource=box.resource,
            preference=asked,
            context=box.context,
            name="theirs",
            policy=theirs,
        )
    )
    assert document["chosen"]["ids"] == ["g05", "g07"]
    assert [other["ids"] for other in document["runners_up"]] == [["g05", "g06"]]
    assert document["chosen"]["score"]["policy"] is None
    assert document["chosen"]["score"]["links"] > 0
    table = explanation_text(document)
    assert "chosen  -" in table
    assert "2       -" in table
