"""Messages written by hand are those that protobuf writes, whatever was kept of the list before."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.kubelet.wire import (
    LARGE_BYTES,
    NO_LIST,
    PART,
    EncodedList,
    allocate_response,
    encoded_list,
    large_question,
)
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

NAME = ResourceName("example.com/gpu")


def entry(name: str, *, healthy: bool = True, node: int | None = 0) -> AdvertisedDevice:
    return AdvertisedDevice(
        id=AdvertisedID(name),
        device=DeviceID(name),
        health=Health.HEALTHY if healthy else Health.UNHEALTHY,
        numa_node=node,
    )


def resource(entries: Sequence[AdvertisedDevice]) -> Resource:
    return Resource(name=NAME, vendor="example", devices=tuple(entries))


def message(entries: Sequence[AdvertisedDevice]) -> bytes:
    """What protobuf makes of it."""
    nodes = None not in {one.numa_node for one in entries}
    answer = pluginapi.ListAndWatchResponse()
    for one in entries:
        device = answer.devices.add(ID=one.id, health=one.health)
        if nodes:
            device.topology.nodes.add(ID=one.numa_node)
    return answer.SerializeToString(deterministic=True)


entries = st.builds(
    entry,
    st.text("abc-", min_size=1, max_size=4) | st.text("x", min_size=100, max_size=140),
    healthy=st.booleans(),
    node=st.sampled_from([0, 1, 1, None, 300]),
)
lists = st.lists(entries, max_size=6, unique_by=lambda one: one.id)


@given(lists, lists)
def test_a_list_is_what_protobuf_writes_whatever_came_before(
    before: list[AdvertisedDevice], after: list[AdvertisedDevice]
) -> None:
    known = encoded_list(resource(before))
    assert known.message == message(before)
    assert encoded_list(resource(after), known).message == message(after)


LONG = [entry(f"gpu-{number}") for number in range(2 * PART + 10)]


@pytest.mark.parametrize("at", [0, PART - 1, PART, 2 * PART, 2 * PART + 9])
def test_one_change_leaves_the_other_parts_as_they_are(at: int) -> None:
    known = encoded_list(resource(LONG))
    changed = [*LONG]
    changed[at] = replace(LONG[at], health=Health.UNHEALTHY)
    following = encoded_list(resource(changed), known)
    assert following.message == message(changed)
    for number in range(3):
        part = tuple(changed[number * PART : (number + 1) * PART])
        kept = known.part(number, part)
        assert (kept is None) == (number == at // PART)
        if kept is not None:
            assert bytes(kept) == message(part)


def test_a_list_without_nodes_takes_nothing_of_one_with_them() -> None:
    known = encoded_list(resource(LONG))
    without = [*LONG[:-1], replace(LONG[-1], numa_node=None)]
    following = encoded_list(resource(without), known)
    assert following.message == message(without)
    assert not following.topology
    assert encoded_list(resource(LONG), following).message == message(LONG)


def test_what_was_kept_is_taken_and_not_made_again() -> None:
    marked = EncodedList(message=b"kept", parts=(tuple(LONG[:1]),), ends=(4,), topology=True)
    assert encoded_list(resource(LONG[:1]), marked).message == b"kept"
    assert encoded_list(resource(LONG[:1]), replace(marked, topology=False)).message != b"kept"
    assert NO_LIST.part(0, ()) is None


def test_the_same_answer_is_the_same_bytes() -> None:
    names = [f"V{number}" for number in range(40)]
    one, other = (ContainerEdits(env=dict.fromkeys(order, "1")) for order in (names, names[::-1]))
    assert allocate_response(one) == allocate_response(other)


def question(count: int, must: Sequence[str] = (), size: int = 3) -> bytes:
    request = pluginapi.PreferredAllocationRequest()
    request.container_requests.add(
        available_deviceIDs=[f"gpu-{number:08}" for number in range(count)],
        must_include_deviceIDs=must,
        allocation_size=size,
    )
    return request.SerializeToString()


def asked(data: bytes) -> pluginapi.PreferredAllocationRequest:
    return pluginapi.PreferredAllocationRequest.FromString(data)


# Lengths of three and four groups of seven bits.
@pytest.mark.parametrize("count", [LARGE_BYTES // 14 + 1, 20_000, 180_000])
def test_a_large_question_is_kept_as_its_bytes(count: int) -> None:
    must = ["gpu-00000001", "gpu-00000002"]
    data = question(count, must)
    found = large_question(data, asked(data))
    assert found is not None
    assert (found.count, found.size, found.must_include) == (count, 3, frozenset(must))
    ids = [line[1:] for line in found.available.split(b"\n")[1:]]  # each after its length
    assert ids == [f"gpu-{number:08}".encode() for number in range(count)]


def test_a_small_question_is_none() -> None:
    count = LARGE_BYTES // 14 - 10
    data = question(count)
    assert len(data) < LARGE_BYTES
    assert large_question(data, asked(data)) is None


@pytest.mark.parametrize(
    "data",
    [
        question(3000) + question(1),
        question(3000) + question(0, size=0),
        b"".join((question(3000), b"\x18\x07")),  # an unknown field behind it
    ],
    ids=["two containers", "an empty second one", "an unknown field"],
)
def test_bytes_in_another_order_are_not_taken_for_a_large_question(data: bytes) -> None:
    assert large_question(data, asked(data)) is None


def test_a_size_before_the_ids_is_not_taken_for_a_large_question() -> None:
    ids = pluginapi.ContainerPreferredAllocationRequest(
        available_deviceIDs=[f"gpu-{number:08}" for number in range(4000)]
    ).SerializeToString()
    body = (
        pluginapi.ContainerPreferredAllocationRequest(allocation_size=3).SerializeToString() + ids
    )
    length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14])
    data = b"\n" + length + body
    assert asked(data).container_requests[0].allocation_size == 3
    assert large_question(data, asked(data)) is None
