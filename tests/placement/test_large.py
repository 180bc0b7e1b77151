"""A question answered on its bytes has the answer that it has when it is read."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.kubelet import wire
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Preference,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.placement.large import MOST_DEVICES, prefer_large
from deviceplugin.placement.narrow import narrow, shared
from deviceplugin.placement.prefer import prefer
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.resources.shares import GIB, MIB, share_ids

# One begins like another, one ends like another, one looks like a share.
NAMES = ("a", "b", "10000:20:00.0", "0000:20:00.0", "GPU-1", "GPU-1-m", "x::1")
Question = tuple[Resource, Sequence[str], Sequence[str], int]
UNITS = (None, GIB, 26 * MIB)


def resource(names: Sequence[str], count: int, unit: int | None, policy: str | None) -> Resource:
    share = Share(count=count, unit_bytes=unit)
    entries = [
        AdvertisedDevice(
            id=i, device=DeviceID(name), health=Health.HEALTHY, share=share, replica=number
        )
        for name in names
        for number, i in enumerate(share_ids(DeviceID(name), share))
    ]
    devices = tuple(sorted(entries, key=lambda entry: entry.id))
    return Resource(name=ResourceName("x.com/y"), vendor="x", devices=devices, policy=policy)


def question(ids: Sequence[str], must: Sequence[str], size: int) -> LargeQuestion | None:
    """As the kubelet asks it, however small it is."""
    request = pluginapi.PreferredAllocationRequest()
    request.container_requests.add(
        available_deviceIDs=ids, must_include_deviceIDs=must, allocation_size=size
    )
    return wire.large_question(request.SerializeToString(), request)


@pytest.fixture(autouse=True)
def _every_question_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGE_BYTES", 0)


def read(listed: Resource, ids: Sequence[str], must: Sequence[str], size: int) -> tuple[str, ...]:
    """The answer by the way that reads every id."""
    preference = Preference(
        available=frozenset(map(AdvertisedID, ids)),
        must_include=frozenset(map(AdvertisedID, must)),
        size=size,
    )
    return prefer(listed, narrow(shared(listed), preference))


@st.composite
def questions(draw: st.DrawFn) -> Question:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    unit, policy = draw(st.sampled_from(UNITS)), draw(st.sampled_from([None, "spread", "packed"]))
    listed = resource(names, draw(st.integers(10, 60)), unit, policy)
    every = [entry.id for entry in listed.devices]
    ids = list(draw(st.permutations(every)))[draw(st.integers(0, len(every) - 1)) :]
    must = draw(st.lists(st.sampled_from(ids), max_size=3, unique=True))
    return listed, ids, must, draw(st.integers(0, 6))


@given(questions())
def test_both_ways_give_the_same_answer(
    asked: Question,
) -> None:
    listed, ids, must, size = asked
    large = question(ids, must, size)
    assert large is not None
    answer = prefer_large(shared(listed), large)
    assert answer is None or answer == read(listed, ids, must, size)


@given(questions(), st.lists(st.sampled_from([*NAMES, "z-m1", "GPU-1-m999999"]), max_size=4))
def test_ids_that_are_not_listed_are_never_given(asked: Question, foreign: list[str]) -> None:
    listed, ids, must, size = asked
    large = question([*foreign, *ids], must, size)
    assert large is not None
    answer = prefer_large(shared(listed), large)
    if answer is not None:
        assert len(set(answer)) == len(answer) == size
        assert set(must) <= set(answer) <= set(ids)


def test_an_ordinary_question_is_answered_this_way() -> None:
    listed = resource(["GPU-1", "GPU-2"], 40, 26 * MIB, None)
    ids = [entry.id for entry in listed.devices][5:]
    large = question(ids, ids[-1:], 3)
    assert large is not None
    assert prefer_large(shared(listed), large) == read(listed, ids, ids[-1:], 3)


@pytest.mark.parametrize(
    ("must", "size"),
    [([], 0), ([], 60), (["z"], 3), (["GPU-1::0", "GPU-1::1"], 2), (["GPU-1::79"], 2)],
    ids=["none", "most", "unknown", "all given", "given and not available"],
)
def test_what_is_out_of_the_ordinary_is_read(must: list[str], size: int) -> None:
    listed = resource(["GPU-1"], 80, None, None)
    large = question([entry.id for entry in listed.devices if entry.replica != 79], must, size)
    assert large is not None
    assert prefer_large(shared(listed), large) is None


def test_a_device_that_is_not_shared_or_too_many_are_read() -> None:
    many = resource([f"d{n:02}" for n in range(MOST_DEVICES + 1)], 10, None, None)
    whole = AdvertisedDevice(id=AdvertisedID("w"), device=DeviceID("w"), health=Health.HEALTHY)
    mixed = Resource(name=many.name, vendor="x", devices=(*many.devices[:10], whole))
    for listed in (many, mixed):
        large = question([entry.id for entry in listed.devices], [], 1)
        assert large is not None
        assert prefer_large(shared(listed), large) is None


@pytest.mark.parametrize("kind", ["small", "several containers", "nothing", "another order"])
def test_only_a_large_question_of_one_container_stays_unread(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pluginapi.PreferredAllocationRequest()
    if kind != "nothing":
        request.container_requests.add(available_deviceIDs=["a", "b"], allocation_size=1)
    if kind == "several containers":
        request.container_requests.add(available_deviceIDs=["a"], allocation_size=1)
    if kind == "small":
        monkeypatch.setattr(wire, "LARGE_BYTES", 1000)
    data = request.SerializeToString()
    if kind == "another order":
        data = b"\n\x08" + b"\x18\x01" + b"\n\x01a" + b"\n\x01b"
        assert pluginapi.PreferredAllocationRequest.FromString(data) == request
    assert wire.large_question(data, request) is None
