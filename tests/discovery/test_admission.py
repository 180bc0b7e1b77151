"""What a vendor claims, checked: by itself, and beside the devices of others."""

from typing import Any

import pytest

from deviceplugin.discovery.admission import admitted, checked
from deviceplugin.errors import DiscoveryError
from deviceplugin.kubelet.retention import with_tombstones
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Discovery,
    Fault,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.names import id_problem

ORDER = ("ours", "theirs")


def device(name: str, vendor: str = "ours", **values: Any) -> Device:
    """One whose fields may be of any type: a vendor may give anything."""
    return Device(**({"id": name, "vendor": vendor, "resource": f"{vendor}.com/gpu"} | values))


def test_an_honest_discovery_is_taken_over_whole() -> None:
    fault = Fault(device=DeviceID("a"), source="ours.x", code="c", reason="r", action="a")
    found = Discovery(devices=(device("a", numa_node=0), device("b")), faults=(fault,))
    assert checked("ours", found) == (found, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vendor": "other"}, "it is said to be of vendor 'other'"),
        ({"id": "x" * 64}, "more than 63 characters"),
        ({"id": "two words"}, "printable ASCII"),
        ({"id": None}, "id is None"),
        ({"resource": "no-domain"}, "no domain before a slash"),
        ({"memory_bytes": "1"}, "memory_bytes is '1'"),
        ({"memory_bytes": -1}, "memory_bytes is -1"),
        ({"nodes": (5,)}, "something other than paths"),
        ({"links": ("b",)}, "something other than links"),
        ({"attributes": {"a": 5}}, "something other than text"),
        ({"attributes": None}, "attributes is None"),
        ({"numa_node": True}, "numa_node is True"),
        ({"shareable": 1}, "shareable is 1"),
        ({"ecc": "disabled"}, "ecc is 'disabled'"),
        ({"ordinal": 3}, "ordinal is 3"),
        ({"functions": (7,)}, "something other than PCI addresses"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_device_that_is_none_costs_itself(changes: dict[str, Any], reason: str) -> None:
    found = Discovery(devices=(device("good"), device("bad", **changes)))
    believed, (refused,) = checked("ours", found)
    assert [d.id for d in believed.devices] == ["good"]
    assert reason in refused.reason


@pytest.mark.parametrize("found", [None, [], (device("a"),), "devices"])
def test_what_is_no_discovery_is_a_failure(found: object) -> None:
    with pytest.raises(DiscoveryError, match="not a Discovery"):
        checked("ours", found)


def test_an_id_given_twice_identifies_neither() -> None:
    believed, (refused,) = checked("ours", Discovery(devices=(device("a"), device("a"))))
    assert believed.devices == ()
    assert refused.reason == "2 devices have this id"


def test_the_weaker_vendor_is_refused_an_id_and_not_offered_a_name() -> None:
    theirs = (device("a", "theirs"), device("b", "theirs", resource="ours.com/gpu"))
    claim = admitted("theirs", theirs, [device("a")], ORDER)
    assert [(d.id, d.resource) for d in claim.devices] == [("b", None)]
    assert [r.device for r in claim.refused] == ["a", "b"]
    assert claim.displaced == {}


def test_the_stronger_vendor_displaces_what_it_contests_and_nothing_else() -> None:
    theirs = [
        device("a", "theirs"),
        device("b", "theirs", resource="ours.com/gpu"),
        device("c", "theirs"),
    ]
    claim = admitted("ours", (device("a"),), theirs, ORDER)
    assert (claim.devices, claim.refused) == ((device("a"),), ())
    assert claim.displaced == {"theirs": (theirs[2],)}


def test_between_vendors_without_an_order_the_first_to_come_has_it() -> None:
    claim = admitted("b", (device("x", "b"),), [device("x", "a")], ())
    assert (claim.devices, claim.displaced) == ((), {})


@pytest.mark.parametrize("text", ["GPU-3", "0000:3a:00.0", "amd-e3aa140f9a5f9e31-p7", "x" * 63])
def test_ids_that_can_be_used(text: str) -> None:
    assert id_problem(text) is None


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a\n", "ä", "x" * 64])
def test_ids_that_cannot(text: str) -> None:
    assert id_problem(text) is not None


def test_a_tombstone_of_one_vendor_hides_no_id_of_another() -> None:
    entry = AdvertisedDevice(id=AdvertisedID("a"), device=DeviceID("a"), health=Health.HEALTHY)
    ours = Resource(name=ResourceName("ours.com/gpu"), vendor="ours", devices=(entry,))
    grave = Resource(name=ResourceName("theirs.com/gpu"), vendor="theirs", devices=(entry,))
    listed = with_tombstones({ours.name: ours}, {grave.name: grave})
    assert listed[ours.name] == ours
    assert listed[grave.name].devices[0].health is Health.UNHEALTHY


@pytest.mark.parametrize("node", [-1, 1024, 2**64])
def test_a_numa_node_that_no_kernel_has_is_unknown_and_told(node: int) -> None:
    found, (refused,) = checked("ours", Discovery(devices=(device("a", numa_node=node),)))
    assert [d.numa_node for d in found.devices] == [None]
    assert refused.reason == f"NUMA node {node} is taken as unknown"


def test_what_is_no_device_costs_itself_alone() -> None:
    devices: Any = ("text", device("a"))  # as no type checker would have it
    found, (refused,) = checked("ours", Discovery(devices=devices))
    assert [d.id for d in found.devices] == ["a"]
    assert (refused.device, refused.reason) == ("text", "str is not a Device")
