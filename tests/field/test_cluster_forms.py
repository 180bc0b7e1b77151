"""One predicate decides what is listed and what is allocated."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import AllocationError
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Inventory,
    Resource,
    ResourceName,
)
from deviceplugin.resources.allocation import select
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import Holder, Holding, Ledger, PodResourcesReply
from tests.resources.builders import gpu, inventory, sharing
from tests.resources.test_ledger import Clock, Source

WHOLE, PART = ResourceName("intel.com/gpu"), ResourceName("intel.com/xe-4gb")
B60 = gpu(0, 24, vendor="intel", id=DeviceID("0000:03:00.0"), resource=WHOLE)
SHARES = sharing({"offers": ["whole", {"replicas": 2}, {"memory": {"unit": "8GiB"}}]})


def functions() -> list[Device]:
    return [
        gpu(
            n,
            4,
            vendor="intel",
            id=DeviceID(f"0000:03:00.{n}"),
            resource=PART,
            parent=B60.id,
            profile="xe-4gb",
        )
        for n in range(1, 7)
    ]


class Node:
    """A ledger, a plan, and the guard of allocations."""

    def __init__(self, found: Inventory, *, shared: bool = False) -> None:
        self.clock, self.found = Clock(), found
        self.rules = SHARES if shared else sharing()
        self.ledger = Ledger(self.clock)
        self.reply()
        self.guard = FormGuard(self.ledger, Source(self.ledger), dict, lambda: self.found.devices)

    def reply(self, *held: tuple[ResourceName, str]) -> None:
        self.clock.now_s += 2
        holder = Holder(namespace="n", pod="p", container="c")
        holdings = tuple(
            Holding(resource=name, id=AdvertisedID(one), numa_node=None, holder=holder)
            for name, one in held
        )
        self.ledger.look_up(self.rules.ids(self.found))
        reply = PodResourcesReply(pods=frozenset({("n", "p")}), holdings=holdings)
        self.ledger.observe(reply, self.clock.now_s)
        self.clock.now_s += 1

    def resources(self) -> dict[ResourceName, Resource]:
        return dict(self.rules.plan(self.found, self.ledger.usage.value).resources)

    async def allocate(self, resource: Resource, entry: AdvertisedDevice) -> None:
        """As the kubelet does with the list that it has."""
        entries = select(resource.name, {entry.id: entry}, [entry.id])
        async with self.guard.reserving(resource, entries):
            pass

    def health(self, name: ResourceName) -> dict[str, bool]:
        listed = self.resources()[name].devices
        return {entry.id: entry.health is Health.HEALTHY for entry in listed}


async def test_functions_given_while_the_kubelet_said_nothing_are_listed_as_allocated() -> None:
    """A B60 is held whole; the kubelet tells nothing for 8 s; its functions are made, two are
    allocated; then the kubelet tells of the whole again."""
    node = Node(inventory(B60))
    whole = node.resources()[WHOLE]
    await node.allocate(whole, whole.devices[0])
    node.reply((WHOLE, B60.id))
    for _ in range(4):
        node.reply()
    node.found = inventory(replace(B60, resource=None), *functions())
    parts = node.resources()[PART]
    for number in (0, 4):
        await node.allocate(parts, parts.devices[number])
    node.reply((WHOLE, B60.id))
    assert not any(node.health(PART).values())
    for entry in node.resources()[PART].devices:
        with pytest.raises(AllocationError, match=r"in.use.as"):
            await node.allocate(node.resources()[PART], entry)


async def test_a_function_that_a_pod_is_known_to_hold_stays_healthy_and_its_own() -> None:
    """The kubelet would kill the pod at its next restart; whom it would give it to is that pod."""
    node = Node(inventory(replace(B60, resource=None), *functions()))
    node.reply((WHOLE, B60.id), (PART, "0000:03:00.1"))
    assert [one for one, healthy in node.health(PART).items() if healthy] == ["0000:03:00.1"]
    parts = node.resources()[PART]
    await node.allocate(parts, parts.devices[0])


KEYS = st.lists(st.integers(0, 10**6), max_size=6)


@settings(max_examples=60, deadline=None)
@given(KEYS, KEYS)
def test_an_id_is_listed_healthy_if_and_only_if_it_can_be_allocated(
    told: list[int], given_: list[int]
) -> None:
    """Whatever the kubelet has told and whatever was given out before."""
    node = Node(inventory(gpu(0, 24), gpu(1, 24)), shared=True)
    every = [(r.name, e.id) for r in node.resources().values() for e in r.devices]
    for number in given_:
        name, one = random.Random(number).choice(every)
        with node.ledger.reserving(name, [one]):
            pass
    node.clock.now_s += 1
    node.reply(*(random.Random(number).choice(every) for number in told))
    for resource in node.resources().values():
        for entry in resource.devices:
            healthy = entry.health is Health.HEALTHY
            as_before = replace(entry, health=Health.HEALTHY)
            assert healthy == _passes(node, resource, as_before)


def _passes(node: Node, resource: Resource, entry: AdvertisedDevice) -> bool:
    try:
        node.guard._check_forms(resource, [entry])
    except AllocationError:
        return False
    return True
