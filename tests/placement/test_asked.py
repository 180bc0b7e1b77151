"""A person's question: what it may name, and how many it may ask for."""

from typing import Any

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Preference
from deviceplugin.placement.asked import Asked, preference_asked, resource_asked
from tests.placement import boxes
from tests.placement.boxes import NAME, Box

BOX = Box(boxes.pcie_only(4))
RESOURCES = {NAME: BOX.resource}


def asked(**changed: Any) -> Asked:
    values: dict[str, Any] = {
        "resource": NAME,
        "size": 1,
        "available": None,
        "must_include": (),
        "policy": None,
    }
    return Asked(**values | changed)


def preferred(held: tuple[str, ...] = (), **changed: Any) -> Preference:
    return preference_asked(
        asked(**changed), BOX.resource, frozenset(map(AdvertisedID, held)), BOX.context
    )


def test_a_resource_is_asked_for_by_its_name() -> None:
    assert resource_asked(asked(), RESOURCES) is BOX.resource


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (RESOURCES, "one of example.com/gpu"),
        ({}, "nothing: this node has no resource"),
    ],
    ids=["another one", "none at all"],
)
def test_a_resource_that_is_not_there_is_told_with_those_that_are(
    resources: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        resource_asked(asked(resource="example.com/gone"), resources)
    assert str(refused.value) == f"--resource: 'example.com/gone' is not valid, expected {expected}"


def test_everything_that_nobody_holds_is_available_unless_some_are_named() -> None:
    assert preferred(held=("g01",)).available == {"g00", "g02", "g03"}
    assert preferred(held=("g01",), available=("g01", "g02")).available == {"g01", "g02"}


def test_the_question_has_its_size_and_what_must_be_included() -> None:
    question = preferred(size=2, must_include=("g02",))
    assert question.size == 2
    assert question.must_include == {"g02"}


@pytest.mark.parametrize("flag", ["available", "must_include"])
def test_an_id_that_the_resource_does_not_have_is_told_with_its_flag(flag: str) -> None:
    with pytest.raises(ConfigError) as refused:
        preferred(**{flag: ("g00", "g09")})
    option = flag.replace("_", "-")
    assert str(refused.value) == f"--{option}: 'g09' is not valid, expected an id of {NAME}"


@pytest.mark.parametrize(
    ("changed", "held", "expected"),
    [
        ({"size": 5}, (), "at most 4: example.com/gpu has 4, so many are healthy and free"),
        ({"size": 4}, ("g00",), "at most 3: example.com/gpu has 4, so many are healthy and free"),
        (
            {"size": 2, "available": ("g00",)},
            (),
            "at most 1: example.com/gpu has 4, so many are named",
        ),
        (
            {"size": 3, "available": ("g00",), "must_include": ("g01",)},
            (),
            "at most 2: example.com/gpu has 4, so many are named",
        ),
    ],
    ids=["more than listed", "more than free", "more than named", "with must"],
)
def test_a_size_that_cannot_be_had_is_told_with_the_largest(
    changed: Any, held: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        preferred(held=held, **changed)
    assert str(refused.value).endswith(expected)


def test_the_largest_size_can_be_had() -> None:
    assert preferred(size=4).size == 4
    assert preferred(size=2, available=("g00",), must_include=("g01",)).size == 2
