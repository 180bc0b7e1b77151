"""What is held of each device: added to, it is what it would be made anew."""

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.resources.usage import usage_of, with_keys

Keys = frozenset[tuple[ResourceName, AdvertisedID]]
KEYS = st.frozensets(
    st.tuples(
        st.sampled_from(["a/gpu", "a/shared"]).map(ResourceName),
        st.sampled_from(["x", "y", "x::0", "x-m1"]).map(AdvertisedID),
    )
)


@given(KEYS, KEYS)
def test_ids_added_to_a_usage_are_held_with_the_others(before: Keys, more: Keys) -> None:
    assert with_keys(usage_of(before), more) == usage_of(before | more)


@given(KEYS, KEYS)
def test_the_usage_that_is_added_to_does_not_change(before: Keys, more: Keys) -> None:
    usage = usage_of(before)
    with_keys(usage, more)
    assert usage == usage_of(before)
