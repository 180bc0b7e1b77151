"""What an advertised id means is looked up, whatever it looks like."""

import random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.errors import AllocationError
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    ResourceName,
)
from deviceplugin.names import MAX_ID, id_problem
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.ledger import Holder, Holding, Ledger, PodResourcesReply, UsageSource
from deviceplugin.resources.shares import form_text, possible_shares, share_ids, share_of
from tests.resources.builders import gpu, inventory, sharing

FORMS = sharing(
    {"offers": ["whole", {"replicas": 2}, {"memory": {}}, {"memory": {"unit": "512MiB"}}]}
)
GPU, SHARED, MEMORY, SLICES = (
    ResourceName(f"nvidia.com/{name}")
    for name in ("gpu", "gpu.shared", "gpu-memory", "gpu-memory-512mi")
)
NEVER_ASKED = cast("UsageSource", None)


def card(device_id: str, **changed: Any) -> Device:
    return gpu(0, 2, **{"id": DeviceID(device_id), **changed})


def key(name: ResourceName, text: str) -> tuple[ResourceName, AdvertisedID]:
    return (name, AdvertisedID(text))


@pytest.mark.parametrize(
    "ids",
    [("card-m1", "card-m2"), ("x::1",), ("x-2gi-m0",), ("x::",), ("::1",), ("-m1",), ("x-512mi",)],
    ids=str,
)
def test_a_device_is_offered_in_all_its_forms_whatever_its_id_ends_like(
    ids: tuple[str, ...],
) -> None:
    node = inventory(*map(card, ids))
    plan = FORMS.plan(node)
    assert plan.problems == ()
    assert set(plan.resources) == {GPU, SHARED, MEMORY, SLICES}
    known = FORMS.ids(node)
    for name, resource in plan.resources.items():
        for entry in resource.devices:
            assert known.meanings((name, entry.id)) == ((entry.device, form_text(entry.share)),)


def test_an_id_that_no_resource_offers_is_all_that_it_can_be() -> None:
    known = Ids(frozenset(map(DeviceID, ["card", "card-m1"])))
    assert known.meanings(key(MEMORY, "card-m1")) == (("card-m1", "whole"), ("card", "1gi"))
    assert known.meanings(key(MEMORY, "card-512mi-m1")) == (("card", "512mi"),)
    assert known.meanings(key(SHARED, "card::7")) == (("card", "replica"),)
    assert known.meanings(key(SHARED, "gone::7")) == (("gone::7", "whole"),)


@pytest.mark.parametrize(
    "text",
    [
        "card",
        "card::",
        "card::01",
        "card::-1",
        "card::1x",
        "card-m",
        "card-m01",
        "::1",
        "-m1",
        "-m٣",
    ],
    ids=str,
)
def test_an_id_that_no_share_has_is_none(text: str) -> None:
    assert list(possible_shares(text)) == []


@pytest.mark.parametrize("unit", ["1gi", "1024mi", "0mi", "02gi", "2ti", "gi", "9" * 5000 + "mi"])
def test_a_unit_that_no_id_carries_is_a_part_of_the_device(unit: str) -> None:
    assert list(possible_shares(f"card-{unit}-m0")) == [(f"card-{unit}", "1gi")]


@pytest.mark.parametrize(
    ("ids", "shared", "other", "left"),
    [
        (("card", "card-m1"), "card", "card-m1", MEMORY),
        (("card", "card::0"), "card", "card::0", SHARED),
        (("card", "card-512mi-m3"), "card", "card-512mi-m3", SLICES),
        (("card", "card-512mi"), "card", "card-512mi", SLICES),
    ],
    ids=["slice", "replica", "slice of a unit", "slices of both"],
)
def test_shares_whose_ids_could_mean_another_device_are_refused_and_the_device_stays(
    ids: tuple[str, ...], shared: str, other: str, left: ResourceName
) -> None:
    plan = FORMS.plan(inventory(*map(card, ids)))
    problem = next(p for p in plan.problems if p.resource == left)
    assert problem.reason == (
        f"an id of the shares of device {shared} could also mean device {other}"
    )
    assert problem.action.startswith(f"offer device {shared} whole")
    assert {entry.device for entry in plan.resources[GPU].devices} == set(ids)
    assert shared not in {entry.device for entry in plan.resources[left].devices}
    listed = [entry.id for resource in plan.resources.values() for entry in resource.devices]
    assert len(set(listed)) == len(listed)


def test_a_device_that_is_not_offered_may_be_held_too_and_keeps_its_id() -> None:
    plan = FORMS.plan(inventory(card("card"), card("card-m1", resource=None)))
    assert [p.resource for p in plan.problems] == [MEMORY]


@pytest.mark.parametrize(("length", "fits"), [(MAX_ID - 3, True), (MAX_ID - 2, False)])
def test_shares_whose_ids_would_be_too_long_are_refused_and_the_device_stays(
    length: int, fits: bool
) -> None:
    long = card("x" * length)
    plan = sharing({"offers": ["whole", {"replicas": 2}]}).plan(inventory(long, card("y")))
    assert {e.device for e in plan.resources[GPU].devices} == {long.id, "y"}
    shared = plan.resources[SHARED].devices
    assert all(id_problem(entry.id) is None for entry in shared)
    assert ({e.device for e in shared} == {long.id, "y"}) is fits
    if not fits:
        (problem,) = plan.problems
        assert problem.resource == SHARED
        assert problem.reason == (
            f"the ids of the shares of device {long.id} would have 64 characters,"
            " at most 63 can be used"
        )
        assert "shorter id" in problem.action


# Few stems and all endings, so that ids of one node are like each other's shares.
IDS = st.lists(
    st.one_of(
        st.builds(
            str.__add__,
            st.sampled_from(["a", "b", "a-b"]),
            st.lists(
                st.sampled_from(["::0", "::1", "-m0", "-m1", "-512mi", "-2gi", "::", "-m"]),
                max_size=3,
            ).map("".join),
        ),
        st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=63),
    ).filter(lambda text: id_problem(text) is None),
    min_size=1,
    max_size=4,
    unique=True,
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["allocate", "free", "reply", "restart"]), st.integers(0, 10**6)),
    max_size=25,
)


class Node:
    """Devices in exclusive forms, and pods that the test knows better than any ledger does."""

    def __init__(self, ids: list[str]) -> None:
        self.inventory = inventory(*map(card, ids))
        self.known = FORMS.ids(self.inventory)
        self.now_s = 1000.0
        self.pods: dict[int, tuple[ResourceName, AdvertisedDevice]] = {}
        self.restart()

    def restart(self) -> None:
        """Another daemon, that is told what pods hold."""
        self.ledger = Ledger(lambda: self.now_s)
        self.guard = FormGuard(self.ledger, NEVER_ASKED, dict, lambda: self.inventory.devices)
        self.ledger.look_up(self.known)
        self.reply()

    def reply(self) -> None:
        self.now_s += 2
        holdings = tuple(
            Holding(
                resource=name,
                id=entry.id,
                numa_node=None,
                holder=Holder(namespace="n", pod=str(pod), container="c"),
            )
            for pod, (name, entry) in self.pods.items()
        )
        pods = frozenset(("n", str(pod)) for pod in self.pods)
        self.ledger.observe(PodResourcesReply(pods=pods, holdings=holdings), self.now_s)

    def allocate(self, dice: random.Random, number: int) -> None:
        taken = {(name, entry.id) for name, entry in self.pods.values()}
        plan = FORMS.plan(self.inventory, self.ledger.usage.value)
        offered = [
            (resource, entry)
            for resource in plan.resources.values()
            for entry in resource.devices
            if (resource.name, entry.id) not in taken and entry.health is Health.HEALTHY
        ]
        if not offered:
            return
        resource, entry = dice.choice(offered)
        self.guard._check_forms(resource, [entry])
        with self.ledger.reserving(resource.name, [entry.id]):
            self.pods[number] = (resource.name, entry)

    def check(self) -> None:
        forms: dict[DeviceID, set[tuple[ResourceName, str]]] = {}
        for name, entry in self.pods.values():
            forms.setdefault(entry.device, set()).add((name, form_text(entry.share)))
        assert all(len(of) == 1 for of in forms.values()), forms


@settings(max_examples=150, deadline=None)
@given(IDS, STEPS)
def test_exclusive_forms_exclude_whatever_the_ids_of_the_devices(
    ids: list[str], steps: list[tuple[str, int]]
) -> None:
    node = Node(ids)
    for number, (step, seed) in enumerate(steps):
        dice = random.Random(seed)
        if step == "allocate":
            node.allocate(dice, number)
        elif step == "free" and node.pods:
            node.pods.pop(dice.choice(sorted(node.pods)))
        elif step == "reply":
            node.reply()
        elif step == "restart":
            node.restart()
        node.check()


@settings(max_examples=150, deadline=None)
@given(IDS)
def test_every_listed_id_means_one_thing_and_can_be_used(ids: list[str]) -> None:
    node = inventory(*map(card, ids))
    plan, known = FORMS.plan(node), FORMS.ids(node)
    listed = [
        (name, entry) for name, resource in plan.resources.items() for entry in resource.devices
    ]
    assert len({entry.id for _, entry in listed}) == len(listed)
    for name, entry in listed:
        assert id_problem(entry.id) is None
        assert known.meanings((name, entry.id)) == ((entry.device, form_text(entry.share)),)
    assert {entry.device for entry in plan.resources[GPU].devices} == set(ids)


@given(IDS)
def test_a_share_that_a_pod_has_since_another_configuration_keeps_its_device(
    ids: list[str],
) -> None:
    node = inventory(*map(card, ids))
    whole = sharing({"offers": ["whole"]})
    shares = FORMS.plan(node).resources
    for name in shares.keys() - {GPU}:
        for entry in shares[name].devices[:1]:
            ledger = Ledger(lambda: 1.0)
            ledger.look_up(whole.ids(node))
            with ledger.reserving(name, [entry.id]):
                plan = whole.plan(node, ledger.usage.value)
            (listed,) = [e for e in plan.resources[GPU].devices if e.device == entry.device]
            assert listed.reason == f"in_use_as {name}"


def test_a_share_that_loses_to_the_whole_is_refused_by_the_guard() -> None:
    node = inventory(card("card-m1"), card("card-m2"))
    ledger = Ledger(lambda: 1.0)
    ledger.look_up(FORMS.ids(node))
    guard = FormGuard(ledger, NEVER_ASKED, dict, lambda: node.devices)
    plan = FORMS.plan(node)
    with ledger.reserving(GPU, [AdvertisedID("card-m1")]):
        shares = [e for e in plan.resources[SHARED].devices if e.device == "card-m1"]
        with pytest.raises(AllocationError, match=f"card-m1 is in use as {GPU}"):
            guard._check_forms(plan.resources[SHARED], shares[:1])
        other = [e for e in plan.resources[SHARED].devices if e.device == "card-m2"]
        guard._check_forms(plan.resources[SHARED], other[:1])


def test_the_ids_of_all_shares_lead_back_to_their_device() -> None:
    device = card("GPU-3")
    for offer in FORMS.rules[0].forms[1:]:
        share = share_of(device, offer)
        assert share is not None
        for one in share_ids(device.id, share):
            assert (device.id, form_text(share)) in possible_shares(one)
