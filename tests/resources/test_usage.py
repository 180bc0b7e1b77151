"""What is held of each device: added to, it is what all of it makes at once."""

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.model import AdvertisedID, DeviceID, ResourceName
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.usage import Meanings, usage_of, with_keys

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
