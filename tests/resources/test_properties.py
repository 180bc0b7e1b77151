"""No sequence of allocations and releases breaks the promises, whatever the kubelet chooses."""

import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import AllocationError
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import Holder, Holding, Ledger, PodResourcesReply, UsageSource
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.usage import usage_of
from tests.resources.builders import gpu, instance, inventory, sharing

PARENT = gpu(2)
NODE = inventory(
    gpu(0, 8), gpu(1, 4), PARENT, instance(PARENT, 0), instance(PARENT, 1, memory_bytes=2 << 30)
)
RULES = sharing(
    {"match": {"profile": "*"}, "offers": ["whole", {"memory": {"unit": "512MiB"}}]},
    {"offers": ["whole", {"replicas": 3}, {"memory": {}}]},
)

IDS = RULES.ids(NODE)


class Kubelet:
    """What pods hold, and how it appears to the ledger."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.held: dict[int, tuple[ResourceName, tuple[AdvertisedID, ...]]] = {}
        self.invisible: set[int] = set()
        self.ledger = Ledger(lambda: self.now)
        self.ledger.look_up(IDS)
        source = cast("UsageSource", None)
        self.forms = FormGuard(self.ledger, source, dict, lambda: NODE.devices)
        self.number = 0
        self.last: Plan | None = None

    def plan(self) -> Plan:
        plan = RULES.plan(NODE, self.ledger.usage.value, self.last)
        whole = RULES.plan(NODE, self.ledger.usage.value)
        assert replace(plan, parts={}) == replace(whole, parts={})
        self.last = plan
        return plan

    def allocate(
        self, resource: Resource, entries: Sequence[AdvertisedDevice], *, visible: bool
    ) -> None:
        self.forms._check_forms(resource, entries)
        ids = [entry.id for entry in entries]
        with self.ledger.reserving(resource.name, ids):
            self.number += 1
            self.held[self.number] = (resource.name, tuple(ids))
            if not visible:
                self.invisible.add(self.number)

    def poll(self) -> None:
        self.now += 1
        holdings = [
            Holding(
                resource=name,
                id=one,
                numa_node=0,
                holder=Holder(namespace="n", pod=f"p{number}", container="c"),
            )
            for number, (name, ids) in self.held.items()
            if number not in self.invisible
            for one in ids
        ]
        pods = frozenset(("n", f"p{number}") for number in self.held)
        self.ledger.observe(PodResourcesReply(pods=pods, holdings=tuple(holdings)), self.now)
        self.now += 1

    def check(self) -> None:
        held = [(name, one) for name, ids in self.held.values() for one in ids]
        assert len(set(held)) == len(held)
        usage = usage_of({key: IDS.meanings(key) for key in held}).held
        memory = Counter[DeviceID]()
        for device_id, forms in usage.items():
            assert len(forms) == 1, f"{device_id} is in two forms: {forms}"
            device = NODE.devices[device_id]
            assert device.parent is None or device.parent not in usage
        listed = {
            (name, entry.id): entry.health
            for name, resource in self.plan().resources.items()
            for entry in resource.devices
        }
        for key in held:
            assert listed[key] is Health.HEALTHY, f"{key} is kept from its own pod"
            ((device_id, unit),) = IDS.meanings(key)
            memory[device_id] += {"1gi": 1 << 30, "512mi": 512 << 20}.get(unit, 0)
        for device_id, size in memory.items():
            assert size <= (NODE.devices[device_id].memory_bytes or 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["allocate", "stale", "free", "poll", "restart", "init"]),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_gpu_is_ever_held_in_two_forms_nor_more_memory_than_it_has(
    steps: list[tuple[str, int]],
) -> None:
    kubelet = Kubelet()
    kubelet.poll()
    stale = kubelet.plan()
    for step, seed in steps:
        dice = random.Random(seed)
        if step in ("allocate", "stale", "init"):
            plan = stale if step == "stale" else kubelet.plan()
            resource = plan.resources[dice.choice(sorted(plan.resources))]
            taken = {one for name, ids in kubelet.held.values() for one in ids}
            free = [e for e in resource.devices if e.health is Health.HEALTHY and e.id not in taken]
            picked = dice.sample(free, min(len(free), dice.randint(1, 4)))
            if picked:
                with contextlib.suppress(AllocationError):
                    kubelet.allocate(resource, picked, visible=step != "init")
        elif step == "free" and kubelet.held:
            kubelet.held.pop(dice.choice(sorted(kubelet.held)))
        elif step == "poll":
            stale = kubelet.plan()
            kubelet.poll()
        elif step == "restart":
            kubelet.ledger.source_restarted()
        kubelet.check()


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_everything_comes_free_again_two_minutes_after_the_last_pod(
    steps: list[tuple[str, int]],
) -> None:
    kubelet = Kubelet()
    for _, seed in steps[:10]:
        plan = kubelet.plan()
        resource = plan.resources[random.Random(seed).choice(sorted(plan.resources))]
        healthy = [entry for entry in resource.devices if entry.health is Health.HEALTHY]
        if healthy:
            kubelet.ledger.source_restarted()
            with kubelet.ledger.reserving(resource.name, [healthy[0].id]):
                pass
    kubelet.now += 121
    kubelet.poll()
    kubelet.poll()
    assert not kubelet.ledger.entries
    assert kubelet.plan() == RULES.plan(NODE)
