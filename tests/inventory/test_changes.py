"""What is told of a change, and what `discover` shows."""

import json

from deviceplugin.cli.tables import report_text
from deviceplugin.inventory.changes import events
from deviceplugin.model import Device, DeviceID, Fault, Inventory, ResourceName, VendorStatus
from deviceplugin.resources.plan import plan_resources
from deviceplugin.resources.report import report

A = Device(id=DeviceID("a"), vendor="example", resource=ResourceName("example.com/gpu"))
LOST = Fault(
    device=A.id, source="example.x", code="lost", reason="it is lost", action="reboot the node"
)
EMPTY = Inventory()
WELL = Inventory(
    devices={A.id: A}, vendors={"example": VendorStatus(name="example", driver_version="1.2")}
)
ILL = Inventory(devices=WELL.devices, vendors=WELL.vendors, faults={A.id: (LOST,)})


def names(before: Inventory, after: Inventory) -> list[str]:
    return [name for name, _ in events(before, after)]


def test_a_device_is_told_when_it_comes_and_goes() -> None:
    assert names(EMPTY, WELL) == ["vendor_serves", "device_found"]
    assert names(WELL, Inventory(vendors=WELL.vendors)) == ["device_gone"]


def test_a_fault_is_told_with_what_to_do_and_when_it_is_over() -> None:
    told = dict(events(WELL, ILL))
    assert list(told) == ["fault", "device_unhealthy"]
    assert told["fault"]["action"] == "reboot the node"
    assert names(ILL, WELL) == ["fault_cleared", "device_healthy"]


def test_nothing_is_told_of_no_change() -> None:
    assert names(ILL, ILL) == []


def test_a_vendor_that_waits_is_told_once_with_its_reason() -> None:
    waiting = Inventory(vendors={"example": VendorStatus(name="example", error="no driver")})
    assert list(events(EMPTY, waiting)) == [
        ("vendor_waits", {"vendor": "example", "reason": "no driver"})
    ]
    assert names(waiting, waiting) == []


def test_the_report_is_plain_json_with_the_keys_that_are_promised() -> None:
    document = report("node-1", ILL, plan_resources(ILL))
    assert json.loads(json.dumps(document)) == document
    assert document["node"] == "node-1"
    assert document["vendors"] == [
        {
            "name": "example",
            "driver_version": "1.2",
            "library_version": None,
            "error": None,
            "notes": [],
        }
    ]
    (device,) = document["devices"]
    assert {"id", "vendor", "product", "parent", "profile", "pci_address", "numa_node"} <= set(
        device
    )
    assert device["health"] == "Unhealthy"
    assert device["faults"][0]["reason"] == "it is lost"
    assert document["resources"] == {
        "example.com/gpu": [{"id": "a", "health": "Unhealthy", "device": "a"}]
    }


def test_the_table_says_what_is_wrong_and_what_to_do() -> None:
    text = report_text(report("node-1", ILL, plan_resources(ILL)))
    assert "it is lost" in text
    assert "do: reboot the node" in text


def test_the_table_shows_parts_below_their_whole() -> None:
    parts = [
        Device(id=DeviceID(name), vendor="example", parent=DeviceID(parent))
        for name, parent in (("m1", "z"), ("m2", "a"))
    ]
    whole = [Device(id=DeviceID(name), vendor="example") for name in "az"]
    found = Inventory(devices={d.id: d for d in (*parts, *whole)})
    text = report_text(report("node-1", found, plan_resources(found)))
    shown = [line.split()[0] for line in text.splitlines() if "Healthy" in line]
    assert shown == ["a", "m2", "z", "m1"]
