"""Who holds which id, from what is reserved, named and told."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedDevice, AdvertisedID, DeviceID, Resource, ResourceName
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import (
    QUIET_S,
    Holder,
    Holding,
    Ledger,
    PodResourcesReply,
    UsageSource,
)
from deviceplugin.resources.pairs import Pairs
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.usage import claim_name, kind_of
from tests.resources.builders import gpu, inventory, sharing

FORMS = sharing({"offers": ["whole", {"replicas": 2}]})
NODE = inventory(gpu(0))
GPU, SHARED = ResourceName("nvidia.com/gpu"), ResourceName("nvidia.com/gpu.shared")
DEVICE = gpu(0).id
ID, REPLICA, OTHER = AdvertisedID(DEVICE), AdvertisedID(f"{DEVICE}::0"), AdvertisedID("other")
KEY = (GPU, ID)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Source(UsageSource):
    """Answers when it is let; knows whether something is handed out."""

    def __init__(self, ledger: Ledger, absent: bool = False) -> None:
        self.ledger, self._absent = ledger, absent
        self.asked, self.gate, self.busy = asyncio.Event(), asyncio.Event(), 0

    @property
    def absent(self) -> bool:
        return self._absent

    async def ask(self) -> None:
        self.asked.set()
        await self.gate.wait()
        if not self._absent:
            self.ledger.observe(PodResourcesReply(pods=frozenset(), holdings=()), 1000.0)

    @contextmanager
    def allocating(self) -> Iterator[None]:
        self.busy += 1
        yield
        self.busy -= 1


def guarded(ledger: Ledger, source: Source) -> tuple[FormGuard, Resource]:
    plan = FORMS.plan(NODE)
    ledger.look_up(FORMS.ids(NODE))
    guard = FormGuard(ledger, source, lambda: plan.choices, lambda: NODE.devices)
    return guard, plan.resources[GPU]


def held(*ids: AdvertisedID) -> PodResourcesReply:
    holder = Holder(namespace="n", pod="p", container="c")
    holdings = tuple(Holding(resource=GPU, id=i, numa_node=None, holder=holder) for i in ids)
    return PodResourcesReply(pods=frozenset({("n", "p")}), holdings=holdings)


def test_a_reserved_id_is_held_and_one_whose_allocation_failed_is_not() -> None:
    ledger = Ledger(Clock())
    assert not ledger.is_held(KEY)
    with ledger.reserving(GPU, [ID]):
        assert ledger.is_held(KEY)
        assert ledger.holders == {GPU: {ID}}
    assert ledger.is_held(KEY)
    with pytest.raises(ZeroDivisionError), ledger.reserving(GPU, [OTHER]):
        raise ZeroDivisionError
    assert not ledger.is_held((GPU, OTHER))
    assert ledger.holders == {GPU: {ID}}


def test_a_failed_allocation_leaves_an_entry_of_before_as_it_was() -> None:
    ledger = Ledger(Clock())
    ledger.observe(held(ID), 1000.0)
    before = dict(ledger.entries)
    with pytest.raises(ZeroDivisionError), ledger.reserving(GPU, [ID]):
        raise ZeroDivisionError
    assert ledger.entries == before


def test_an_id_is_known_as_named_while_a_request_runs_and_for_two_minutes() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.naming(GPU, [ID]):
        with ledger.naming(GPU, [ID]):
            pass
        clock.now_s += 2 * QUIET_S
        assert ledger.is_held(KEY)
        assert not ledger.is_held((GPU, OTHER), QUIET_S)
        assert not ledger.is_held((ResourceName("other.com/gpu"), ID), QUIET_S)
        with ledger.naming(GPU, [ID]):
            pass
    assert not ledger.is_held(KEY)
    clock.now_s += QUIET_S - 1
    assert ledger.is_held(KEY, QUIET_S)
    assert not ledger.is_held(KEY, QUIET_S - 1)
    clock.now_s += 1
    assert not ledger.is_held(KEY, QUIET_S)


def test_ids_named_long_ago_cost_no_memory() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for number in range(1000):
        clock.now_s += 1
        with ledger.naming(GPU, [AdvertisedID(str(number))]):
            pass
    assert len(ledger._named_s) == QUIET_S
    assert ledger._naming == {}


async def test_an_id_is_named_before_its_allocation_waits_for_anything() -> None:
    ledger = Ledger(Clock())
    source = Source(ledger)
    guard, resource = guarded(ledger, source)

    async def allocate() -> None:
        async with guard.reserving(resource, resource.devices[:1]):
            assert source.busy == 1
            assert KEY in ledger.entries

    task = asyncio.create_task(allocate())
    await source.asked.wait()
    assert ledger.is_held(KEY)
    assert KEY not in ledger.entries
    source.gate.set()
    await task
    assert source.busy == 0
    assert ledger.is_held(KEY)


async def test_a_refused_allocation_has_named_its_ids_and_holds_none() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.observe(PodResourcesReply(pods=frozenset(), holdings=()), 1000.0)
    guard, resource = guarded(ledger, Source(ledger))
    with ledger.reserving(SHARED, [REPLICA]):
        pass
    with pytest.raises(AllocationError, match=r"is in use as nvidia\.com/gpu\.shared"):
        async with guard.reserving(resource, resource.devices[:1]):
            raise AssertionError
    assert not ledger.is_held(KEY)
    assert ledger.is_held(KEY, QUIET_S)


async def test_without_a_source_the_first_form_only_is_handed_out() -> None:
    ledger = Ledger(Clock())
    source = Source(ledger, absent=True)
    source.gate.set()
    guard, resource = guarded(ledger, source)
    async with guard.reserving(resource, resource.devices[:1]):
        pass
    shared = FORMS.plan(NODE).resources[SHARED]
    with pytest.raises(AllocationError, match="does not tell"):
        async with guard.reserving(shared, shared.devices[:1]):
            raise AssertionError


def test_what_pods_hold_is_looked_up_again_when_the_devices_are_known() -> None:
    ledger = Ledger(Clock())
    ledger.observe(held(REPLICA), 1000.0)
    assert ledger.held() == [(("n", "p", "c"), GPU, DeviceID(REPLICA))]
    ledger.look_up(FORMS.ids(NODE))
    assert ledger.held() == [(("n", "p", "c"), GPU, DEVICE)]
    assert ledger.usage.value.ids(DEVICE, (GPU, "replica")) == {REPLICA}
    assert ledger.holders == {GPU: {REPLICA}}


def listing(*pods: str) -> PodResourcesReply:
    return PodResourcesReply(pods=frozenset(("n", pod) for pod in pods), holdings=())


class Polled:
    """A ledger that knows pod `old`, then gives out an id; each reply comes two seconds later."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock)
        self.reply("old")
        with self.ledger.reserving(GPU, [ID]):
            pass

    def reply(self, *pods: str) -> bool:
        """Take a reply with these pods; whether the id is in use after it."""
        self.clock.now_s += 2
        self.ledger.observe(listing(*pods), self.clock.now_s)
        return self.ledger.is_held(KEY)


def test_an_id_whose_pod_never_ran_is_free_after_two_replies() -> None:
    polled = Polled()
    assert polled.reply("old")
    assert not polled.reply("old")


def test_pods_that_come_after_the_first_reply_cannot_hold_it() -> None:
    """A pod is listed before its admission, so its own was there at the first reply."""
    polled = Polled()
    assert polled.reply("old")
    assert not polled.reply("old", "later")


def test_a_pod_that_came_with_it_may_hold_it_in_its_init_container() -> None:
    polled = Polled()
    assert all(polled.reply("old", "new") for _ in range(int(QUIET_S / 2) - 1))
    assert not polled.reply("old", "new")


def test_it_is_free_when_all_pods_that_came_with_it_are_gone() -> None:
    polled = Polled()
    assert polled.reply("old", "a", "b")
    assert polled.reply("old", "a")
    assert polled.reply("old", "later")
    assert not polled.reply("old", "a")  # of that name, and later


def test_a_restart_of_the_kubelet_brings_no_suspect_where_there_was_none() -> None:
    polled = Polled()
    assert polled.reply("old")
    polled.ledger.source_restarted()
    assert not polled.reply()


def test_after_a_restart_of_the_kubelet_a_suspect_that_is_not_listed_is_none_the_less() -> None:
    polled = Polled()
    assert polled.reply("old", "new")
    polled.ledger.source_restarted()
    assert all(polled.reply() for _ in range(int(QUIET_S / 2) - 1))


def test_without_a_reply_before_it_nobody_knows_who_came_with_it() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.reserving(GPU, [ID]):
        pass
    for _ in range(3):
        clock.now_s += 2
        ledger.observe(listing("old"), clock.now_s)
    assert ledger.is_held(KEY)


JOINED = sharing({"joined": True, "offers": [{"replicas": 2}, {"memory": {"unit": "10GiB"}}]})
TWO = inventory(gpu(0), gpu(1))
MEMORY = ResourceName("nvidia.com/gpu-memory-10gi")


class Joined:
    """A guard of two GPUs whose replicas and memory are asked for together."""

    def __init__(self) -> None:
        self.ledger = Ledger(Clock())
        self.ledger.look_up(JOINED.ids(TWO))
        self.pairs = Pairs(Clock(), lambda: self.plan.resources, lambda: self.ledger.holders)
        self.guard = FormGuard(
            self.ledger,
            Source(self.ledger),
            lambda: self.plan.choices,
            lambda: TWO.devices,
            self.pairs,
        )

    @property
    def plan(self) -> Plan:
        return JOINED.plan(TWO, self.ledger.usage.value)

    def entry(self, name: ResourceName, number: int) -> AdvertisedDevice:
        """The first id of a GPU."""
        of_gpu = [e for e in self.plan.resources[name].devices if e.device == gpu(number).id]
        return of_gpu[0]

    async def allocate(self, name: ResourceName, number: int, fails: bool = False) -> None:
        entries = [self.entry(name, number)]
        async with self.guard.reserving(self.plan.resources[name], entries):
            if fails:
                raise ZeroDivisionError


async def test_a_container_gets_the_memory_of_the_gpu_that_it_has_a_replica_of() -> None:
    node = Joined()
    await node.allocate(GPU, 1)
    with pytest.raises(AllocationError, match="has not enough free") as refused:
        await node.allocate(MEMORY, 0)
    assert refused.value.refusal is Refusal.PAIR
    assert set(node.ledger.holders[GPU]) == {f"{gpu(1).id}::0"}
    assert node.ledger.holders.get(MEMORY, frozenset()) == frozenset()


async def test_a_container_may_have_both_halves_of_one_gpu() -> None:
    node = Joined()
    await node.allocate(GPU, 1)
    await node.allocate(MEMORY, 1)
    await node.allocate(MEMORY, 0)  # the next container's
    assert len(node.ledger.holders[MEMORY]) == 2


async def test_what_a_container_was_refused_is_no_half_of_the_next_ones() -> None:
    node = Joined()
    await node.allocate(GPU, 1)
    with pytest.raises(ZeroDivisionError):
        await node.allocate(MEMORY, 1, fails=True)
    await node.allocate(MEMORY, 0)
    assert len(node.ledger.holders[MEMORY]) == 1


TRAINER = Holder(namespace="team", pod="trainer", container="main")
CLAIM = claim_name("team", "one")


def told(ledger: Ledger, *claims: tuple[ResourceName, Holder]) -> None:
    reply = PodResourcesReply(pods=frozenset({("team", "trainer")}), holdings=(), claims=claims)
    ledger.observe(reply, 1000.0)


def test_a_claims_devices_are_held_by_the_containers_that_use_it() -> None:
    ledger = Ledger(Clock())
    sidecar = Holder(namespace="team", pod="trainer", container="sidecar")
    told(ledger, (CLAIM, TRAINER), (CLAIM, sidecar), (claim_name("team", "else"), TRAINER))
    assert ledger.held() == []
    ledger.claim("gpu.nvidia.com", {DEVICE: (ResourceName("dra"), CLAIM)})
    assert ledger.held() == [
        (("team", "trainer", "main"), CLAIM, DEVICE),
        (("team", "trainer", "sidecar"), CLAIM, DEVICE),
    ]
    told(ledger)
    assert ledger.held() == []


def test_claims_of_several_drivers_are_told_apart() -> None:
    ledger = Ledger(Clock())
    told(ledger, (CLAIM, TRAINER))
    ledger.claim("gpu.nvidia.com", {DEVICE: (claim_name("other", "one"),)})
    ledger.claim("gpu.amd.com", {gpu(1).id: (CLAIM,)})
    assert [device for _, _, device in ledger.held()] == [gpu(1).id]


def test_all_claims_are_one_kind() -> None:
    assert kind_of(CLAIM) == kind_of(claim_name("a", "b")) == "claim"
    assert kind_of(GPU) == GPU
