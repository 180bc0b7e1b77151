"""What is held is free neither too early nor too late, and keeps away other forms alone."""

import asyncio
import contextlib
from types import MappingProxyType

import pytest

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedID, Health, Preference, ResourceName, Share
from deviceplugin.placement.narrow import narrow, shared
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import (
    QUIET_S,
    SETTLED_S,
    Holder,
    Holding,
    Ledger,
    PodResourcesReply,
    Pods,
)
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.shares import form_text
from deviceplugin.resources.usage import usage_of
from tests.resources.builders import GIB, gpu, inventory, sharing
from tests.resources.test_ledger import (
    DEVICE,
    FORMS,
    GPU,
    ID,
    KEY,
    OTHER,
    SHARED,
    Clock,
    Source,
)

ONE, TWO = gpu(0, 4), gpu(1, 4)
NODE = inventory(ONE, TWO)
RULES = sharing(
    {"offers": ["whole", {"replicas": 6}, {"memory": {}}, {"memory": {"unit": "512MiB"}}]}
)
IDS = RULES.ids(NODE)
EMPTY = PodResourcesReply(pods=frozenset(), holdings=())


def listing(*held: tuple[str, AdvertisedID], pods: Pods | None = None) -> PodResourcesReply:
    """A reply in which these pods hold these ids."""
    holdings = tuple(
        Holding(
            resource=GPU,
            id=one,
            numa_node=None,
            holder=Holder(namespace="n", pod=pod, container="c"),
        )
        for pod, one in held
    )
    return PodResourcesReply(pods=pods or frozenset(("n", p) for p, _ in held), holdings=holdings)


def test_a_listed_id_is_free_after_the_second_reply_without_it() -> None:
    ledger = Ledger(Clock())
    ledger.observe(listing(("p", ID)), 1000.0)
    ledger.observe(EMPTY, 1002.0)
    assert ledger.is_held(KEY)
    ledger.observe(EMPTY, 1004.0)
    assert not ledger.is_held(KEY)


def test_a_reply_with_the_id_in_between_starts_the_count_again() -> None:
    ledger = Ledger(Clock())
    for asked_s in (1000.0, 1010.0, 1020.0):
        ledger.observe(listing(("p", ID)), asked_s)
        ledger.observe(EMPTY, asked_s + 1)
        assert ledger.is_held(KEY)


def test_only_pods_that_miss_something_are_asked_about() -> None:
    ledger = Ledger(Clock())
    ledger.observe(listing(("p", ID), ("q", OTHER)), 1000.0)
    assert ledger.missing_pods() == frozenset()
    ledger.observe(listing(("q", OTHER)), 1002.0)
    assert ledger.missing_pods() == {("n", "p")}


def test_a_pod_that_is_gone_frees_what_is_missing_of_it_and_of_no_other() -> None:
    ledger = Ledger(Clock())
    ledger.observe(listing(("p", ID), ("q", OTHER)), 1000.0)
    ledger.observe(EMPTY, 1002.0)
    ledger.pod_gone("n", "p")
    assert list(ledger.entries) == [(GPU, OTHER)]
    ledger.pod_gone("other", "q")
    assert list(ledger.entries) == [(GPU, OTHER)]


def test_a_pod_of_a_new_name_that_is_listed_is_not_freed() -> None:
    ledger = Ledger(Clock())
    ledger.observe(listing(("p", ID)), 1000.0)
    ledger.pod_gone("n", "p")
    assert ledger.is_held(KEY)


def test_a_reply_to_a_question_of_the_moment_of_the_reservation_counts() -> None:
    ledger = Ledger(Clock())
    with ledger.reserving(GPU, [ID]):
        pass
    ledger.observe(listing(("p", ID)), 1000.0)
    assert ledger.entries[KEY].listed
    assert ledger.entries[KEY].holder == Holder(namespace="n", pod="p", container="c")


def test_a_reply_to_an_older_question_says_nothing_of_a_reservation() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.observe(EMPTY, 990.0)
    with ledger.reserving(GPU, [ID]):
        pass
    before = ledger.entries[KEY]
    for asked_s in (991.0, 995.0, 999.9):
        ledger.observe(EMPTY, asked_s)
    assert ledger.entries[KEY] == before


def test_a_reply_to_an_older_question_names_no_holder_of_a_reservation() -> None:
    ledger = Ledger(Clock())
    with ledger.reserving(GPU, [ID]):
        pass
    ledger.observe(listing(("earlier", ID)), 999.0)
    assert ledger.entries[KEY].holder is None
    assert not ledger.entries[KEY].listed


def reserved(pods: Pods) -> Ledger:
    """An id reserved at 1000 s, when these pods were there."""
    ledger = Ledger(Clock())
    ledger.observe(PodResourcesReply(pods=pods, holdings=()), 990.0)
    with ledger.reserving(GPU, [ID]):
        pass
    return ledger


def test_an_allocation_that_made_no_pod_is_free_after_two_settled_replies() -> None:
    ledger = reserved(frozenset({("n", "old")}))
    unsettled_s = 1000.0 + SETTLED_S - 0.01
    for _ in range(3):
        ledger.observe(EMPTY, unsettled_s)
    assert ledger.is_held(KEY)
    ledger.observe(EMPTY, 1000.0 + SETTLED_S)
    assert ledger.is_held(KEY)
    ledger.observe(EMPTY, 1000.0 + SETTLED_S + 2)
    assert not ledger.is_held(KEY)


def test_while_a_new_pod_is_there_the_id_may_be_its_own_for_two_minutes() -> None:
    pods = frozenset({("n", "new")})
    ledger = reserved(frozenset({("n", "old")}))
    for asked_s in (1002.0, 1050.0, 1000.0 + QUIET_S - 0.1):
        ledger.observe(PodResourcesReply(pods=pods, holdings=()), asked_s)
        assert ledger.is_held(KEY)
    ledger.observe(PodResourcesReply(pods=pods, holdings=()), 1000.0 + QUIET_S)
    assert not ledger.is_held(KEY)


def test_a_source_that_restarts_may_miss_everything_for_two_minutes() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.observe(listing(("p", ID)), 1000.0)
    clock.now_s = 1010.0
    ledger.source_restarted()
    for asked_s in (1011.0, 1013.0, 1015.0, 1010.0 + QUIET_S - 1):
        ledger.observe(EMPTY, asked_s)
        assert ledger.held() == [(("n", "p", "c"), GPU, DEVICE)]
    ledger.observe(EMPTY, 1010.0 + QUIET_S)
    assert ledger.held() == []


def test_an_id_whose_holder_is_not_known_yet_is_no_containers() -> None:
    ledger = Ledger(Clock())
    ledger.observe(listing(("p", ID)), 1000.0)
    with ledger.reserving(GPU, [OTHER]):
        pass
    assert ledger.held() == [(("n", "p", "c"), GPU, DEVICE)]


def test_an_id_named_again_keeps_no_older_one_in_memory() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for now_s, one in ((0, ID), (1, OTHER), (100, ID), (1 + QUIET_S, "new")):
        clock.now_s = 1000.0 + now_s
        with ledger.naming(GPU, [AdvertisedID(one)]):
            pass
    assert list(ledger._named_s) == [KEY, (GPU, "new")]


@pytest.mark.parametrize(
    ("share", "form"),
    [
        (None, "whole"),
        (Share(count=3), "replica"),
        (Share(count=4, unit_bytes=GIB), "1gi"),
        (Share(count=8, unit_bytes=GIB // 2), "512mi"),
    ],
    ids=["whole", "replica", "GiB", "MiB"],
)
def test_each_way_to_share_is_a_form_of_its_own(share: Share | None, form: str) -> None:
    assert form_text(share) == form


def using(name: ResourceName, *ids: AdvertisedID) -> Plan:
    """The plan while pods hold the ids."""
    return RULES.plan(NODE, usage_of({(name, one): IDS.meanings((name, one)) for one in ids}))


@pytest.mark.parametrize("name", sorted(RULES.plan(NODE).resources))
def test_what_is_held_keeps_its_own_form_and_takes_the_others(name: ResourceName) -> None:
    first = next(e for e in RULES.plan(NODE).resources[name].devices if e.device == ONE.id)
    for resource in using(name, first.id).resources.values():
        for entry in resource.devices:
            free = entry.device == TWO.id or resource.name == name
            assert entry.health is (Health.HEALTHY if free else Health.UNHEALTHY), entry.id


def test_replicas_are_numbered_for_each_device() -> None:
    devices = RULES.plan(NODE).resources[SHARED].devices
    for device in (ONE.id, TWO.id):
        found = sorted(e.replica for e in devices if e.device == device if e.replica is not None)
        assert found == list(range(6))


def test_no_more_replicas_are_wanted_of_a_gpu_than_it_has_free() -> None:
    """Three more of the second, although the first is as little shared after two."""
    listed = shared(RULES.plan(NODE).resources[SHARED])
    last = AdvertisedID(f"{ONE.id}::5")
    others = [AdvertisedID(f"{TWO.id}::{number}") for number in range(6)]
    asked = Preference(available=frozenset({last, *others}), must_include=frozenset(), size=4)
    assert narrow(listed, asked).available == {last, *others[:3]}


BOTH = FORMS.plan(NODE).resources[GPU]


async def refusal(guard: FormGuard) -> Refusal | None:
    """Why both GPUs cannot be had as a whole, None if they can."""
    try:
        async with guard.reserving(BOTH, BOTH.devices):
            return None
    except AllocationError as error:
        return error.refusal


@pytest.mark.parametrize(
    ("second", "absent", "refused"),
    [
        (GPU, True, None),
        (SHARED, True, Refusal.LEDGER),
        (GPU, False, Refusal.LEDGER),
    ],
    ids=["the first form of both", "of one only", "somebody may know better"],
)
async def test_without_a_ledger_every_device_must_be_in_its_first_form(
    second: ResourceName, absent: bool, refused: Refusal | None
) -> None:
    ledger = Ledger(Clock())
    source = Source(ledger, absent=True)
    source.gate.set()
    if not absent:
        source.ask = source.asked.wait  # type: ignore[assignment,method-assign]  # no reply
        source.asked.set()
        source._absent = False
    choices = MappingProxyType({ONE.id: GPU, TWO.id: second})
    guard = FormGuard(ledger, source, lambda: choices, lambda: NODE.devices)
    assert await refusal(guard) == refused


async def test_what_is_offered_in_one_form_alone_needs_no_ledger() -> None:
    ledger = Ledger(Clock())
    source = Source(ledger)  # it would answer never
    guard = FormGuard(ledger, source, dict, lambda: NODE.devices)
    assert await asyncio.wait_for(refusal(guard), 60) is None
    assert not source.asked.is_set()


async def test_a_device_that_is_gone_hides_no_other_of_the_same_request() -> None:
    ledger = Ledger(Clock())
    ledger.observe(EMPTY, 999.0)
    ledger.look_up(FORMS.ids(NODE))
    there = {TWO.id: TWO}
    guard = FormGuard(ledger, Source(ledger), dict, lambda: there)
    with ledger.reserving(SHARED, [AdvertisedID(f"{TWO.id}::0")]):
        pass
    assert [entry.device for entry in BOTH.devices] == [ONE.id, TWO.id]
    assert await refusal(guard) == Refusal.IN_USE


async def test_a_failure_inside_frees_the_devices_again() -> None:
    ledger = Ledger(Clock())
    ledger.observe(EMPTY, 999.0)
    guard = FormGuard(ledger, Source(ledger), dict, lambda: NODE.devices)
    with contextlib.suppress(ZeroDivisionError):
        async with guard.reserving(BOTH, BOTH.devices):
            assert len(ledger.entries) == 2
            raise ZeroDivisionError
    assert not ledger.entries
