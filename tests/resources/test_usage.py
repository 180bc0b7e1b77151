"""What is held of each device: added to, it is what all of it makes at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.model import AdvertisedID, DeviceID, ResourceName
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.shares import possible_shares
from deviceplugin.resources.usage import (
    Meanings,
    Usage,
    children_of,
    in_use_as,
    usage_of,
    with_keys,
)
from tests.resources.builders import gpu, instance, inventory

Keys = frozenset[tuple[ResourceName, AdvertisedID]]
IDS = Ids(frozenset(map(DeviceID, ["x", "y", "x-m1"])))

KEYS = st.frozensets(
    st.tuples(
        st.sampled_from(["a/gpu", "a/shared"]).map(ResourceName),
        st.sampled_from(["x", "y", "x::0", "x-m1"]).map(AdvertisedID),
    )
)


def meanings(keys: Keys) -> Meanings:
    return {key: IDS.meanings(key) for key in keys}


@given(KEYS, KEYS)
def test_ids_added_to_a_usage_are_held_with_the_others(before: Keys, more: Keys) -> None:
    assert with_keys(usage_of(meanings(before)), meanings(more)) == usage_of(
        meanings(before | more)
    )


@given(KEYS, KEYS)
def test_the_usage_that_is_added_to_does_not_change(before: Keys, more: Keys) -> None:
    usage = usage_of(meanings(before))
    with_keys(usage, meanings(more))
    assert usage == usage_of(meanings(before))


PARENT = gpu(0)
PARTS = (instance(PARENT, 0), instance(PARENT, 1), instance(gpu(1), 0))
NAMES = tuple(map(ResourceName, ["example.com/a", "example.com/b", "example.com/c"]))
A, B, C = NAMES


def test_a_whole_has_all_of_its_parts_and_no_others() -> None:
    devices = inventory(PARENT, *PARTS, gpu(1)).devices
    assert children_of(devices) == {
        PARENT.id: (PARTS[0].id, PARTS[1].id),
        gpu(1).id: (PARTS[2].id,),
    }


@pytest.mark.parametrize(
    ("held", "form", "other"),
    [
        ({}, (A, "whole"), None),
        ({(A, "x"): "whole"}, (A, "whole"), None),
        ({(A, "x"): "replica"}, (A, "whole"), A),
        ({(C, "x"): "whole", (B, "y"): "replica"}, (A, "whole"), B),
        ({(A, "x"): "whole", (B, "y"): "replica"}, (A, "whole"), B),
    ],
    ids=["nothing", "its own", "another form of its name", "the first by name", "its own and more"],
)
def test_a_device_is_in_use_as_the_first_of_its_other_forms(
    held: dict[tuple[ResourceName, str], str],
    form: tuple[ResourceName, str],
    other: ResourceName | None,
) -> None:
    meant = {(name, AdvertisedID(i)): ((PARENT.id, kind),) for (name, i), kind in held.items()}
    assert in_use_as(usage_of(meant), PARENT, form, ()) == other


def test_wholes_and_parts_keep_each_other_away_and_parts_do_not() -> None:
    def held(device: DeviceID) -> Usage:
        return usage_of({(A, AdvertisedID(device)): ((device, "whole"),)})

    one, two = PARTS[:2]
    assert in_use_as(held(PARENT.id), one, (A, "whole"), ()) == A
    assert in_use_as(held(one.id), PARENT, (A, "whole"), (one.id, two.id)) == A
    assert in_use_as(held(two.id), PARENT, (A, "whole"), (one.id, two.id)) == A
    assert in_use_as(held(two.id), one, (A, "whole"), ()) is None


@pytest.mark.parametrize(
    ("advertised", "meanings"),
    [
        ("x::3", [("x", "replica")]),
        ("x-m3", [("x", "1gi")]),
        ("x-2gi-m3", [("x-2gi", "1gi"), ("x", "2gi")]),
        ("x-256mi-m0", [("x-256mi", "1gi"), ("x", "256mi")]),
        ("x-1gi-m0", [("x-1gi", "1gi")]),
        ("x-1024mi-m0", [("x-1024mi", "1gi")]),
        ("x-2048mi-m0", [("x-2048mi", "1gi")]),
        ("x-0gi-m0", [("x-0gi", "1gi")]),
        ("x-2ki-m0", [("x-2ki", "1gi")]),
        ("x-02gi-m0", [("x-02gi", "1gi")]),
        ("x-1234567890123mi-m0", [("x-1234567890123mi", "1gi")]),
        ("x::03", []),
        ("x-m-1", []),
        ("::0", []),
        ("-m0", []),
        ("-2gi-m0", [("-2gi", "1gi")]),
        ("x", []),
    ],
)
def test_an_id_may_be_that_of_a_share(advertised: str, meanings: list[tuple[str, str]]) -> None:
    assert list(possible_shares(advertised)) == meanings
