"""Where two documents differ."""

import pytest

from deviceplugin.config.reload import Change, differences

CASES = {
    "nothing": ({"a": {"b": [1]}}, {"a": {"b": [1]}}, []),
    "a value": ({"a": {"b": 1}}, {"a": {"b": 2}}, [Change("a.b", 1, 2)]),
    "a new key": ({}, {"a": 1}, [Change("a", None, 1)]),
    "a key that is gone": ({"a": {"b": 1}}, {"a": {}}, [Change("a.b", 1, None)]),
    "an item": ([{"a": 1}, 2], [{"a": 3}, 2], [Change("[0].a", 1, 3)]),
    "a longer list": ({"a": [1]}, {"a": [1, 2]}, [Change("a", [1], [1, 2])]),
    "another type": ({"a": None}, {"a": {"b": 1}}, [Change("a", None, {"b": 1})]),
    "text is no list": ({"a": "ab"}, {"a": "ac"}, [Change("a", "ab", "ac")]),
    "in order": ({"b": 1, "a": 1}, {"a": 2, "b": 2}, [Change("a", 1, 2), Change("b", 1, 2)]),
}


@pytest.mark.parametrize(("before", "after", "found"), CASES.values(), ids=CASES)
def test_each_difference_has_its_dotted_key(
    before: object, after: object, found: list[Change]
) -> None:
    assert list(differences(before, after)) == found
