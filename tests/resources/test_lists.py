"""Long lists are compared, sorted and encoded in pieces, with the result of doing it at once."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.kubelet import wire
from deviceplugin.kubelet.plugin import offer
from deviceplugin.kubelet.wire import encoded_list
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.placement.layout import layout_after, layout_of
from deviceplugin.placement.topology import Topology
from deviceplugin.resources import lists
from deviceplugin.resources.build import joined
from deviceplugin.resources.lists import changed_entries

IDS = st.text("abc:-", min_size=1, max_size=4) | st.just("x" * 63) | st.just("é" * 60)
ENTRIES = st.builds(
    AdvertisedDevice,
    id=IDS.map(AdvertisedID),
    device=st.sampled_from("ab").map(DeviceID),
    health=st.sampled_from(Health),
    numa_node=st.sampled_from([None, 0, 1, 1023]),
    share=st.sampled_from([None, Share(count=2)]),
    replica=st.sampled_from([None, 1]),
)
LISTS = st.lists(ENTRIES, max_size=12, unique_by=lambda entry: entry.id).map(
    lambda found: tuple(sorted(found, key=lambda entry: entry.id))
)


def resource(entries: tuple[AdvertisedDevice, ...]) -> Resource:
    return Resource(name=ResourceName("x.com/y"), vendor="x", devices=entries)


def by_protobuf(entries: tuple[AdvertisedDevice, ...]) -> bytes:
    message = pluginapi.ListAndWatchResponse()
    topology = all(entry.numa_node is not None for entry in entries)
    for entry in entries:
        device = message.devices.add(ID=entry.id, health=entry.health)
        if topology:
            device.topology.nodes.add(ID=entry.numa_node)
    return message.SerializeToString(deterministic=True)


@st.composite
def changes(draw: st.DrawFn) -> tuple[tuple[AdvertisedDevice, ...], tuple[AdvertisedDevice, ...]]:
    """A list, and another that differs from it in a few entries' health, or altogether."""
    before = draw(LISTS)
    if draw(st.booleans()):
        return before, draw(LISTS)
    healths = draw(st.lists(st.sampled_from(Health), min_size=len(before), max_size=len(before)))
    now = [
        entry if entry.health is health else replace(entry, health=health)
        for entry, health in zip(before, healths, strict=True)
    ]
    return before, tuple(now)


@given(changes(), st.integers(1, 5))
def test_a_list_in_parts_has_the_bytes_of_the_generated_messages(
    pair: tuple[tuple[AdvertisedDevice, ...], tuple[AdvertisedDevice, ...]], part: int
) -> None:
    wire.PART, whole = part, wire.PART
    try:
        first = encoded_list(resource(pair[0]))
        second = encoded_list(resource(pair[1]), first)
    finally:
        wire.PART = whole
    assert first.message == by_protobuf(pair[0])
    assert second.message == by_protobuf(pair[1])


def test_of_a_long_list_the_changed_part_alone_is_encoded_again() -> None:
    entries = tuple(
        AdvertisedDevice(id=AdvertisedID(f"d{n:05}"), device=DeviceID("d"), health=Health.HEALTHY)
        for n in range(3 * wire.PART)
    )
    first = encoded_list(resource(entries))
    changed = (*entries[:-1], replace(entries[-1], health=Health.UNHEALTHY))
    parts = [
        first.part(number, part) is not None
        for number, part in enumerate(encoded_list(resource(changed)).parts)
    ]
    assert parts == [True, True, False]
    assert encoded_list(resource(changed), first).message == by_protobuf(changed)


@given(changes())
def test_what_is_served_by_id_is_the_newest_list(
    pair: tuple[tuple[AdvertisedDevice, ...], tuple[AdvertisedDevice, ...]],
) -> None:
    second = offer(resource(pair[1]), offer(resource(pair[0])))
    assert second.entries == {entry.id: entry for entry in pair[1]}


@given(changes(), st.integers(1, 5))
def test_the_changed_entries_are_those_that_differ(
    pair: tuple[tuple[AdvertisedDevice, ...], tuple[AdvertisedDevice, ...]], step: int
) -> None:
    before, now = pair
    lists.STEP, whole = step, lists.STEP
    try:
        changed = changed_entries(now, before)
    finally:
        lists.STEP = whole
    if [entry.id for entry in now] != [entry.id for entry in before]:
        assert changed is None
    else:
        assert changed is not None
        differing = [n for n, old in zip(now, before, strict=True) if n != old]
        assert [entry for entry, old in changed if entry != old] == differing


@given(changes())
def test_a_layout_that_follows_is_the_layout_that_is_made_anew(
    pair: tuple[tuple[AdvertisedDevice, ...], tuple[AdvertisedDevice, ...]],
) -> None:
    topology = Topology()
    following = layout_after(layout_of(resource(pair[0]), topology), resource(pair[1]))
    assert following is None or following == layout_of(resource(pair[1]), topology)


@given(st.lists(LISTS, max_size=4))
def test_sorted_parts_make_a_sorted_list(parts: list[tuple[AdvertisedDevice, ...]]) -> None:
    every = [entry.id for part in parts for entry in part]
    assert [entry.id for entry in joined(parts)] == sorted(every)
