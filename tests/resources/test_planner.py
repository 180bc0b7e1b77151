"""From the inventory to the plan: when it is made again, and what is told of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from structlog.testing import capture_logs

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    AdvertisedID,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    ResourceName,
)
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.plan import SOURCE, Resources, Sharing
from deviceplugin.resources.planner import Planner
from deviceplugin.resources.section import Method
from deviceplugin.runtime.latest import Latest
from tests.resources.builders import gpu, sharing

WAIT_S = 60.0
GPU, SHARED = ResourceName("nvidia.com/gpu"), ResourceName("nvidia.com/gpu.shared")
FORMS = sharing({"offers": ["whole", {"replicas": 2}]})
MPS = sharing({"offers": [{"replicas": 2, "sharing": "mps"}]})
LOST = Fault(device=gpu(0).id, source="test", code="lost", reason="gone", kind=FaultClass.HARDWARE)


def not_ready(device: Device) -> Fault:
    return Fault(device=device.id, source="mps", code="mps_not_ready", reason="it is starting")


class Node:
    """A planner, and what it hands on."""

    def __init__(self, made: Sharing, *devices: Device, ledger: Ledger | None = None) -> None:
        self.store = InventoryStore(now=lambda: 1000.0)
        self.ledger = ledger or Ledger(lambda: 1000.0)
        self.planned: list[Resources] = []
        self.plans = Latest(0)
        self.asked: list[tuple[Resources, frozenset[DeviceID], frozenset[str]]] = []
        self.programs: tuple[Fault, ...] = ()
        self.planner = Planner(self.store, self.ledger, made, self._program_faults, self._planned)
        self.store.set_devices("nvidia", devices)

    def _planned(self, resources: Resources) -> None:
        self.planned.append(resources)
        self.plans.set(len(self.planned))

    def _program_faults(
        self,
        resources: Resources,
        devices: Mapping[DeviceID, Device],
        methods: Mapping[str, Method],
    ) -> Sequence[Fault]:
        self.asked.append((resources, frozenset(devices), frozenset(methods)))
        return self.programs

    async def until(self, count: int) -> None:
        """Until so many plans were handed on."""
        async with asyncio.timeout(WAIT_S):
            await self.plans.until(lambda plans: plans >= count)

    def health(self, name: ResourceName) -> set[Health]:
        return {entry.health for entry in self.planned[-1][name].devices}


async def followed(node: Node, *changes: Any) -> list[Any]:
    """The log of a planner that follows the inventory through the changes, one plan for each."""
    with capture_logs() as logs:
        task = asyncio.create_task(node.planner.plan())
        try:
            await node.until(1)
            for number, change in enumerate(changes):
                change()
                await node.until(number + 2)
        finally:
            task.cancel()
            await asyncio.wait([task])
    return list(logs)


async def test_each_inventory_is_planned_and_its_changes_are_logged() -> None:
    node = Node(sharing(), gpu(0))
    logs = await followed(node, lambda: node.store.set_faults("test", [LOST]))
    assert [set(resources) for resources in node.planned] == [{GPU}, {GPU}]
    assert node.health(GPU) == {Health.UNHEALTHY}
    assert node.planner.current.resources is node.planned[-1]
    told = [(line["event"], line["log_level"]) for line in logs]
    assert told[0] == ("device_found", "info")
    assert ("device_unhealthy", "info") in told
    assert {line["device"] for line in logs} == {gpu(0).id}


async def test_a_change_is_logged_once() -> None:
    node = Node(sharing(), gpu(0))
    more = [gpu(0), gpu(1)]
    logs = await followed(node, lambda: node.store.set_devices("nvidia", more))
    added = [line["device"] for line in logs if line["event"] == "device_found"]
    assert added == [gpu(0).id, gpu(1).id]


def test_a_plan_that_is_held_stays_until_other_rules_are_used() -> None:
    node = Node(sharing(), gpu(0))
    node.planner.use(sharing())
    node.planner.hold()
    node.planner.use(FORMS)
    assert [set(resources) for resources in node.planned] == [{GPU}, {GPU, SHARED}]


async def test_an_inventory_that_comes_while_the_plan_is_held_is_not_planned() -> None:
    node = Node(sharing(), gpu(0))
    node.planner.use(sharing())
    node.planner.hold()
    task = asyncio.create_task(node.planner.plan())
    with capture_logs() as logs:
        async with asyncio.timeout(WAIT_S):
            while not logs:  # noqa: ASYNC110  # it has seen the inventory: nothing tells of it
                await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert len(node.planned) == 1


def test_what_sharing_has_against_a_device_is_its_fault_before_it_is_listed() -> None:
    node = Node(FORMS, gpu(0, ecc=False))
    node.planner.set_faults()
    assert [fault.code for fault in node.store.current.faults_of(gpu(0))] == ["ecc_off_shared"]


def test_a_program_that_does_not_serve_is_a_fault_of_the_devices_that_are_shared_by_it() -> None:
    node = Node(MPS, gpu(0))
    node.programs = (not_ready(gpu(0)),)
    node.planner.use(MPS)
    ((resources, devices, methods),) = node.asked
    assert set(resources) == {GPU}
    assert devices == {gpu(0).id}
    assert methods == {"mps"}
    assert [fault.code for fault in node.store.current.faults_of(gpu(0))] == ["mps_not_ready"]
    assert node.health(GPU) == {Health.UNHEALTHY}


def test_without_a_sharing_method_no_program_is_asked_for() -> None:
    node = Node(FORMS, gpu(0))
    node.planner.use(FORMS)
    assert node.asked == []


def test_faults_of_sharing_end_with_the_sharing() -> None:
    node = Node(FORMS, gpu(0, ecc=False))
    node.planner.set_faults()
    node.planner.use(sharing())
    assert node.store.current.faults_of(gpu(0)) == ()


async def test_a_device_that_changes_hands_is_planned_again_where_it_has_several_forms() -> None:
    node = Node(FORMS, gpu(0))
    node.planner.use(FORMS)
    task = asyncio.create_task(node.planner.follow_ledger())
    with capture_logs() as logs, node.ledger.reserving(GPU, [AdvertisedID(gpu(0).id)]):
        await node.until(2)
        assert node.health(SHARED) == {Health.UNHEALTHY}
        assert node.health(GPU) == {Health.HEALTHY}
    task.cancel()
    await asyncio.wait([task])
    decided = [line for line in logs if line["event"] == "form_decided"]
    assert [(line["device"], line["resource"]) for line in decided] == [(gpu(0).id, GPU)]


async def test_a_device_that_is_let_go_has_all_its_forms_again() -> None:
    node = Node(FORMS, gpu(0))
    node.planner.use(FORMS)
    task = asyncio.create_task(node.planner.follow_ledger())
    with capture_logs() as logs:
        allocation = node.ledger.reserving(SHARED, [AdvertisedID(f"{gpu(0).id}::0")])
        allocation.__enter__()
        await node.until(2)
        allocation.__exit__(ZeroDivisionError, ZeroDivisionError(), None)  # it fails
        await node.until(3)
    task.cancel()
    await asyncio.wait([task])
    assert node.health(GPU) == {Health.HEALTHY}
    forms = [(line["event"], line["resource"]) for line in logs]
    assert forms == [("form_decided", SHARED), ("form_free", SHARED)]


async def test_a_device_of_one_form_is_not_planned_again_when_it_changes_hands() -> None:
    node = Node(sharing(), gpu(0))
    node.planner.use(sharing())
    task = asyncio.create_task(node.planner.follow_ledger())
    with node.ledger.reserving(GPU, [AdvertisedID(gpu(0).id)]):
        for _ in range(20):  # each lets every other task run
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert len(node.planned) == 1


def test_what_cannot_be_offered_is_logged_once_with_what_to_do() -> None:
    strict = sharing({"offers": [{"replicas": 2}]}, isolation="hardware")
    node = Node(strict, gpu(0))
    with capture_logs() as logs:
        node.planner.use(strict)
        node.planner.use(strict)
        (line,) = logs
        assert (line["event"], line["log_level"]) == ("resource_refused", "error")
        assert (line["resource"], node.planned) == (GPU, [{}, {}])
        assert line["reason"].startswith("it isolates by none")
        assert line["action"].startswith("offer whole GPUs")
        node.planner.use(sharing())
        node.planner.use(strict)
    assert [line["event"] for line in logs] == ["resource_refused"] * 2


def test_held_ids_are_looked_up_by_the_rules_in_force() -> None:
    node = Node(FORMS, gpu(0))
    node.planner.use(FORMS)
    with node.ledger.reserving(SHARED, [AdvertisedID(f"{gpu(0).id}::1")]):
        assert node.ledger.usage.value.of(gpu(0).id) == {
            (SHARED, "replica"): {AdvertisedID(f"{gpu(0).id}::1")}
        }
        node.planner.use(FORMS)
        assert node.planner.current.decided == {gpu(0).id: SHARED}


class Watched(Ledger):
    """Counts how often the meaning of ids is given to it."""

    looked_up = 0

    def look_up(self, ids: Ids) -> None:
        self.looked_up += 1
        super().look_up(ids)


def test_ids_are_looked_up_again_when_the_devices_or_the_rules_change_and_not_before() -> None:
    ledger = Watched(lambda: 1000.0)
    node = Node(FORMS, gpu(0), ledger=ledger)
    node.planner.use(FORMS)
    node.store.set_faults("test", [LOST])
    node.planner.use(FORMS)
    assert ledger.looked_up == 1
    node.store.set_devices("nvidia", [gpu(0), gpu(1)])
    node.planner.use(FORMS)
    assert ledger.looked_up == 2
    node.planner.use(sharing())
    assert ledger.looked_up == 3


def test_the_source_of_these_faults_is_sharing() -> None:
    node = Node(FORMS, gpu(0, ecc=False))
    node.planner.set_faults()
    (fault,) = node.store.current.faults_of(gpu(0))
    assert fault.source == SOURCE
