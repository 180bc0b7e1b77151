"""Diagnosis, allocation and release in any order: a GPU that a pod holds is never tested.

The ledger, the guard, the allocator, the tracker, the holds and the order of a test are the real
ones; the kubelet, the driver and time are not.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest

from deviceplugin.diagnose.active.holds import Around, Holds
from deviceplugin.diagnose.active.order import RefusedError, run_tests
from deviceplugin.diagnose.active.values import Outcome, Wish
from deviceplugin.errors import AllocationError
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.records import UNDER_TEST
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Health,
    Resource,
    ResourceName,
    VendorStatus,
)
from deviceplugin.resources.allocation import Request
from deviceplugin.resources.allocator import Allocator, Sources
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.ledger import Holder, Holding, Ledger, PodResourcesReply
from deviceplugin.resources.plan import sharing_of
from deviceplugin.resources.usage import TESTED
from deviceplugin.runtime.control import ControlError

NAME = ResourceName("nvidia.com/gpu")
GPUS = tuple(Device(id=DeviceID(f"GPU-{n}"), vendor="nvidia", resource=NAME) for n in range(3))
WISH = Wish(test="memory_test", seconds=1.0, threshold=0.95)
SEEDS = 1000


class World:
    """A node in which every wait may let others go first, as `chance` says."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # an order of steps
        self.time_s = 1000.0
        self.store = InventoryStore(self.now)
        self.store.set_devices("nvidia", GPUS)
        policy = FaultPolicy(section=HealthSection(), numbered={})
        self.tracker = FaultTracker(self.store, policy, None)
        self.ledger = Ledger(self.now)
        self.ledger.look_up(Ids(frozenset(gpu.id for gpu in GPUS)))
        self.pods: dict[str, AdvertisedID] = {}  # what the kubelet has given
        self.guard = FormGuard(self.ledger, self, dict, lambda: self.store.current.devices, None)
        self.allocator = Allocator(self._sources, self.guard.reserving)
        self.lock: object = None
        self.holds = Holds(
            Around(
                store=self.store,
                tracker=self.tracker,
                ledger=self.ledger,
                source=self,
                listed=lambda: {NAME: self.resource()},
                alive=self._alive,
            )
        )
        self.tested: set[DeviceID] = set()
        self.tests = self.grants = 0

    def now(self) -> float:
        """No two moments are one."""
        self.time_s += 0.001
        return self.time_s

    def _sources(self) -> Sources:
        sharing = sharing_of({})
        return Sources(
            devices=self.store.current.devices, granted=sharing.granted, vendor_edits=self._edits
        )

    def resource(self) -> Resource:
        """The list, whole: one that is behind, as the kubelet's may be, where it is not looked at
        which GPU is Unhealthy."""
        ids = tuple(
            AdvertisedDevice(id=AdvertisedID(g.id), device=g.id, health=Health.HEALTHY)
            for g in GPUS
        )
        return Resource(name=NAME, vendor="nvidia", devices=ids)

    async def others(self) -> None:
        """Whoever is ready may go on."""
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    # The source of usage

    absent = False

    def allocating(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def ask(self) -> None:
        asked_s = self.now()
        holdings = tuple(
            Holding(
                resource=NAME,
                id=held,
                numa_node=None,
                holder=Holder(namespace="default", pod=pod, container="main"),
            )
            for pod, held in self.pods.items()
        )
        await self.others()
        pods = frozenset(("default", pod) for pod in self.pods)
        self.ledger.observe(PodResourcesReply(pods=pods, holdings=holdings), asked_s)

    # What pods do

    async def _edits(self, _: Sequence[Device], __: object) -> ContainerEdits:
        await self.others()
        return ContainerEdits()

    async def pod(self, name: str) -> None:
        """The kubelet gives a GPU that is free by its books, and takes it back later."""
        ids = [AdvertisedID(gpu.id) for gpu in GPUS]
        free = [one for one in ids if one not in self.pods.values()]
        if not free:
            return
        wanted = self.chance.choice(free)
        self.pods[name] = wanted  # its books are written before it asks
        entries: Mapping[str, AdvertisedDevice] = {d.id: d for d in self.resource().devices}
        try:
            request = Request(self.resource(), entries, [wanted])
            await self.allocator.allocate(request, lambda edits: edits)
        except AllocationError:
            del self.pods[name]
            return
        self.grants += 1
        for _ in range(3):
            assert DeviceID(wanted) not in self.tested, "tested while it is held"
            await self.others()
        del self.pods[name]
        await self.ask()

    # What tests do: the desk, and the bench

    async def _alive(self) -> bool:
        await self.others()
        return self.lock is not None

    async def begin(self, device: Device) -> None:
        try:
            await self.holds.begin(device.id, "1")
        except ControlError as error:
            raise RefusedError(str(error)) from error

    async def end(self, device: Device, keep: str) -> str:
        await self.others()
        await self.holds.end(device.id, "1", keep)
        return ""

    async def busy(self, _: Device) -> str:
        await self.others()
        return ""

    async def run(self, device: Device, wish: Wish) -> Outcome:
        held = {str(one) for one in self.granted()}
        assert str(device.id) not in held, "a held GPU is tested"
        self.tested.add(device.id)
        try:
            await self.others()
            await self.others()
        finally:
            self.tested.discard(device.id)
        self.tests += 1
        return Outcome(test=wish.test, device=device.id, product="", tool="", value=1.0)

    def granted(self) -> set[AdvertisedID]:
        """What containers have: ids of the ledger that were given."""
        given = set(self.pods.values())
        return {one for _, one in self.ledger.entries if one in given}

    async def probe(self, _: Device) -> str:
        await self.others()
        return ""

    async def diagnose(self) -> None:
        """One at a time, as the lock has it; some are killed."""
        if self.lock is not None:
            return
        self.lock = object()
        device = self.chance.choice(GPUS)
        task = asyncio.ensure_future(run_tests(self, self, device, [WISH], self._keeping))
        if self.chance.random() < 0.2:
            await self.others()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        self.lock = None

    async def _keeping(self, _: Device, __: object) -> str:
        await self.others()
        return ""

    async def watch(self) -> None:
        await self.others()
        await self.holds.give_back_of_the_dead()


async def life(seed: int) -> World:
    """Twelve things that happen, begun at any moment of the others."""
    world = World(seed)
    world.store.set_status(VendorStatus(name="nvidia"))
    await world.ask()
    tasks = []
    for number in range(12):
        what = world.chance.choice(("pod", "pod", "diagnose", "diagnose", "watch"))
        step = world.pod(f"pod-{number}") if what == "pod" else getattr(world, what)()
        tasks.append(asyncio.ensure_future(step))
        await world.others()
    await asyncio.gather(*tasks)
    return world


async def test_a_held_gpu_is_never_tested_in_a_thousand_interleavings() -> None:
    tests = grants = 0
    for seed in range(SEEDS):
        world = await life(seed)
        tests, grants = tests + world.tests, grants + world.grants
        assert not world.tracker.records.value.cordons, seed
        usage = world.ledger.usage.value
        assert TESTED not in {name for gpu in GPUS for name, _ in usage.of(gpu.id)}, seed
    assert min(tests, grants) > SEEDS // 4  # both were possible, and often


@pytest.mark.parametrize("alive", [True, False], ids=["a test runs", "it was killed"])
async def test_a_cordon_of_before_our_time_is_kept_while_its_test_lives(*, alive: bool) -> None:
    world = World(1)
    world.tracker.cordon(GPUS[0], f"{UNDER_TEST}3f2a")
    world.tracker.cordon(GPUS[1], "ticket 7")
    world.lock = object() if alive else None
    await world.holds.give_back_of_the_dead()
    cordons = {device: one.reason for device, one in world.tracker.records.value.cordons.items()}
    kept = {GPUS[0].id: f"{UNDER_TEST}3f2a"} if alive else {}
    assert cordons == {**kept, GPUS[1].id: "ticket 7"}
    assert bool(world.ledger.usage.value.of(GPUS[0].id)) is alive


async def test_an_operators_cordon_outlives_the_test() -> None:
    world = World(2)
    world.lock = object()
    await world.ask()
    world.tracker.cordon(GPUS[0], "ticket 7")
    reply = await world.holds.begin(GPUS[0].id, "1")
    assert reply["cordoned"] is False
    await world.holds.end(GPUS[0].id, "1", "it failed")
    assert world.tracker.records.value.cordons[GPUS[0].id].reason == "ticket 7"


async def test_an_order_that_comes_during_a_test_stays() -> None:
    world = World(3)
    world.lock = object()
    await world.ask()
    await world.holds.begin(GPUS[0].id, "1")
    world.tracker.cordon(GPUS[0], "ticket 8")
    await world.holds.end(GPUS[0].id, "1", "")
    assert world.tracker.records.value.cordons[GPUS[0].id].reason == "ticket 8"


async def test_without_the_lock_nothing_is_taken() -> None:
    world = World(4)
    await world.ask()
    with pytest.raises(ControlError, match="does not hold the lock"):
        await world.holds.begin(GPUS[0].id, "1")


async def test_while_nobody_knows_who_holds_what_nothing_is_taken() -> None:
    world = World(5)
    world.lock = object()
    world.ask = world.others  # type: ignore[method-assign]  # the kubelet does not answer
    with pytest.raises(ControlError, match="does not tell who holds it"):
        await world.holds.begin(GPUS[0].id, "1")
    assert not world.tracker.records.value.cordons


async def test_parts_and_what_is_in_parts_are_refused() -> None:
    world = World(6)
    world.lock = object()
    part = Device(id=DeviceID("MIG-1"), vendor="nvidia", parent=GPUS[0].id)
    world.store.set_devices("nvidia", (*GPUS, part))
    await world.ask()
    for name in (part.id, GPUS[0].id):
        with pytest.raises(ControlError, match="whole GPUs are tested"):
            await world.holds.begin(name, "1")
