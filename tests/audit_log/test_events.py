"""Which records are made of what happens."""

from pathlib import Path

import pytest

from deviceplugin.audit.events import Moment, claim, devices, granted, holdings, refused
from deviceplugin.audit.record import Link, line_of
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.inventory.changes import OPERATOR_SOURCE
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Resource,
    ResourceName,
)
from deviceplugin.resources.allocation import Allocation, Request
from deviceplugin.resources.entries import Holder

ROOT = Path(__file__).parents[2]
NOW = Moment(5.0, "c0ffee")
GPU = ResourceName("nvidia.com/gpu")
ENTRY = AdvertisedDevice(id=AdvertisedID("a::0"), device=DeviceID("a"), health=Health.HEALTHY)
RESOURCE = Resource(name=GPU, vendor="nvidia", devices=(ENTRY,))
DEVICE = Device(id=DeviceID("a"), vendor="nvidia", resource=GPU)
PART = Device(id=DeviceID("a/1"), vendor="nvidia", resource=GPU, parent=DeviceID("a"))
TRAIN, SERVE = (
    Holder(namespace="default", pod="train", container="main"),
    Holder(namespace="prod", pod="serve", container="main"),
)


def test_an_allocation_has_its_ids_devices_and_the_configuration() -> None:
    record = granted(NOW, Allocation(RESOURCE, (ENTRY,), (DEVICE,), ContainerEdits()))
    assert (record.kind, record.subject, record.at) == ("allocation.granted", GPU, 5.0)
    assert record.configuration == "c0ffee"
    assert record.data == {"ids": ["a::0"], "devices": ["a"]}


def test_a_refusal_has_its_reason_and_what_was_asked_for() -> None:
    error = AllocationError(Refusal.UNKNOWN, "nvidia.com/gpu: unknown device b")
    record = refused(NOW, Request(RESOURCE, {}, ["b" * 10_000, *"c" * 5000]), error)
    assert record.data["refusal"] == "unknown_id"
    assert record.data["reason"] == str(error)
    assert len(record.data["ids"]) == 1024
    assert len(record.data["ids"][0]) == 256


def test_a_claim_has_its_uid() -> None:
    who = {"namespace": "default", "claim": "train", "uid": "1-2"}
    record = claim(NOW, "prepared", who, ["a"])
    assert (record.kind, record.subject) == ("claim.prepared", "default/train")
    assert record.data == {**who, "devices": ["a"]}


def test_who_holds_what_is_recorded_once_it_is_known_and_when_it_ends() -> None:
    one, two = (GPU, AdvertisedID("a")), (GPU, AdvertisedID("b"))
    reserved = {one: None, two: None}
    assert list(holdings(NOW, {}, reserved)) == []
    (held,) = holdings(NOW, reserved, {one: TRAIN, two: TRAIN})
    assert held.kind == "allocation.held"
    assert held.data == {
        "ids": ["a", "b"],
        "namespace": "default",
        "pod": "train",
        "container": "main",
    }
    released, other = holdings(NOW, {one: TRAIN, two: TRAIN}, {one: SERVE, two: TRAIN})
    assert (released.kind, released.data["pod"]) == ("allocation.released", "train")
    assert (other.kind, other.data["pod"], other.data["ids"]) == ("allocation.held", "serve", ["a"])
    assert list(holdings(NOW, {one: TRAIN}, {one: None})) == []  # asked again, not known yet


def test_what_nobody_was_seen_to_take_is_released_without_a_holder() -> None:
    (released,) = holdings(NOW, {(GPU, AdvertisedID("a")): None}, {})
    assert (released.kind, released.data) == ("allocation.released", {"ids": ["a"]})


def kinds(store: InventoryStore, before: Inventory) -> list[str]:
    return [record.kind for record in devices(NOW, before, store.current)]


def test_devices_and_partitions_come_and_go() -> None:
    store = InventoryStore(lambda: 5.0)
    store.set_devices("nvidia", [DEVICE, PART])
    before = store.current
    assert kinds(store, Inventory()) == ["device.found", "partition.found"]
    store.set_devices("nvidia", [DEVICE])
    assert kinds(store, before) == ["partition.gone"]


@pytest.mark.parametrize(
    ("source", "begun", "ended"),
    [
        (OPERATOR_SOURCE, "cordon.set", "cordon.lifted"),
        ("nvidia:xid", "health.fault", "health.fault_cleared"),
    ],
)
def test_verdicts_and_orders_are_told_apart(source: str, begun: str, ended: str) -> None:
    store = InventoryStore(lambda: 5.0)
    store.set_devices("nvidia", [DEVICE])
    well = store.current
    kind = FaultClass.HARDWARE
    fault = Fault(
        device=DEVICE.id, source=source, code="79", kind=kind, reason="it fell off", action="-"
    )
    store.set_faults(source, [fault])
    ill = store.current
    assert kinds(store, well) == [begun, "health.unhealthy"]
    store.set_faults(source, [])
    assert kinds(store, ill) == [ended, "health.healthy"]


def test_an_allocation_takes_as_much_of_the_log_as_the_documents_say() -> None:
    uuid, link = "GPU-" + "a" * 36, Link(123_456, "a" * 64)
    who = {"namespace": "team-a", "pod": "train-7c9d5b6f4d-abcde", "container": "trainer"}
    moment, source = Moment(1.7e9, "b" * 64), "/deviceplugin/nodes/worker-gpu-01.example.internal"
    kept = [
        moment.event("allocation.granted", GPU, {"ids": [uuid], "devices": [uuid]}),
        moment.event("allocation.held", GPU, {"ids": [uuid], **who}),
        moment.event("allocation.released", GPU, {"ids": [uuid], **who}),
    ]
    size = sum(len(line_of(event, source, link)) + 1 for event in kept)
    assert f"{size / 1000:.1f} KB together" in (ROOT / "docs/audit.md").read_text()
