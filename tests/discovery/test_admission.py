"""What a vendor reports, checked: by itself, and beside the devices of others."""

from typing import Any

import pytest

from deviceplugin.discovery.admission import admitted, checked, checked_specs
from deviceplugin.errors import DiscoveryError
from deviceplugin.kubelet.retention import with_tombstones
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceID,
    Discovery,
    Fault,
    Health,
    Link,
    LinkKind,
    Resource,
    ResourceName,
)
from deviceplugin.names import (
    cdi_device_problem,
    cdi_kind_problem,
    cdi_name_problem,
    id_problem,
)

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
        ({"id": "two words"}, "from a letter or digit to another"),
        ({"id": "../../etc"}, "from a letter or digit to another"),
        ({"id": 'a/b"=$'}, "from a letter or digit to another"),
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
        ({"noun": "an NPU"}, "noun is 'an NPU', not a word such as npu"),
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
    admission = admitted("theirs", Discovery(devices=theirs), [device("a")], ORDER)
    assert [(d.id, d.resource) for d in admission.devices] == [("b", None)]
    assert [r.device for r in admission.refused] == ["a", "b"]
    assert admission.displaced == {}


def test_the_stronger_vendor_displaces_what_it_contests_and_nothing_else() -> None:
    theirs = [
        device("a", "theirs"),
        device("b", "theirs", resource="ours.com/gpu"),
        device("c", "theirs"),
    ]
    admission = admitted("ours", Discovery(devices=(device("a"),)), theirs, ORDER)
    assert (admission.devices, admission.refused) == ((device("a"),), ())
    assert admission.displaced == {"theirs": (theirs[2],)}


def test_between_vendors_without_an_order_the_first_to_come_has_it() -> None:
    admission = admitted("b", Discovery(devices=(device("x", "b"),)), [device("x", "a")], ())
    assert (admission.devices, admission.displaced) == ((), {})


@pytest.mark.parametrize("text", ["GPU-3", "0000:3a:00.0", "amd-e3aa140f9a5f9e31-p7", "x" * 63])
def test_ids_that_can_be_used(text: str) -> None:
    assert id_problem(text) is None


@pytest.mark.parametrize("text", ["", "a b", "a\n", "ä", "x" * 64, "..", "-a", "a.", *',/="$;#'])
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


def link(peer: object, **values: Any) -> Link:
    """One whose fields may be of any type."""
    whole: dict[str, Any] = {"peer": peer, "kind": LinkKind.PCIE} | values
    return Link(**whole)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (link("a"), "a link leads to the device itself"),
        (link("c"), "a link leads to 'c', which is not a device of this vendor"),
        (link(5), "a link leads to 5, which is not a device of this vendor"),
        (link("b", kind="two\nlines"), "is not a printable word"),
        (link("b", kind=""), "is not a printable word"),
        (link("b", kind=7), "is not a printable word"),
        (link("b", width=0), "the width of a link is 0"),
        (link("b", width="4"), "the width of a link is '4'"),
        (link("b", cost=0), "the cost of a link, 0, is not a number from 1 to 1000"),
        (link("b", cost=True), "the cost of a link, True, is not"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_link_that_is_none_costs_itself(wrong: Link, reason: str) -> None:
    good = link("b", kind="HCCS", cost=40)
    found = Discovery(devices=(device("a", links=(good, wrong)), device("b")))
    believed, (refused,) = checked("ours", found)
    assert [d.links for d in believed.devices] == [(good,), ()]
    assert refused.device == "a"
    assert reason in refused.reason


@pytest.mark.parametrize("parent", ["a", "gone"])
def test_a_parent_that_is_not_there_is_none(parent: str) -> None:
    believed, (refused,) = checked("ours", Discovery(devices=(device("a", parent=parent),)))
    assert [d.parent for d in believed.devices] == [None]
    assert refused.reason.startswith(f"its parent '{parent}' is ")


def test_a_parent_that_is_there_stays() -> None:
    found = Discovery(devices=(device("a", resource=None), device("b", parent="a")))
    assert checked("ours", found) == (found, ())


def fault(name: str, source: str = "ours.x") -> Fault:
    return Fault(device=DeviceID(name), source=source, code="c", reason="r", action="a")


def test_a_fault_of_another_source_is_left_out() -> None:
    found = Discovery(devices=(device("a"),), faults=(fault("a"), fault("a", "nvidia.xid")))
    believed, (refused,) = checked("ours", found)
    assert believed.faults == (fault("a"),)
    assert "'nvidia.xid' does not begin with 'ours.'" in refused.reason


def test_a_fault_of_another_vendors_device_is_left_out_and_said() -> None:
    found = Discovery(devices=(device("a"),), faults=(fault("a"), fault("b"), fault("unknown")))
    admission = admitted("ours", found, [device("b", "theirs")], ("theirs", "ours"))
    assert [f.device for f in admission.faults] == ["a", "unknown"]
    assert [(r.device, r.reason) for r in admission.refused] == [
        ("b", "a fault (ours.x) of a device of vendor theirs")
    ]


def test_a_cdi_file_that_no_runtime_reads_is_left_out() -> None:
    good = CdiSpec(kind="ours.com/gpu", devices={"a": ContainerEdits()})
    bad = CdiSpec(kind="not a kind!", devices={})
    named = CdiSpec(kind="ours.com/x", devices={"a b": ContainerEdits(), "c": ContainerEdits()})
    specs, refused = checked_specs((good, bad, named))
    assert specs == (good, CdiSpec(kind="ours.com/x", devices={"c": ContainerEdits()}))
    assert [r.device for r in refused] == ["not a kind!", "a b"]


@pytest.mark.parametrize("specs", [None, "text", [1]])
def test_what_is_not_cdi_files_is_a_failure(specs: object) -> None:
    with pytest.raises(DiscoveryError, match="not CdiSpecs"):
        checked_specs(specs)


@pytest.mark.parametrize("kind", ["a.com/gpu", "k8s.device-plugin.amd.com/gpu", "v/c_d-1"])
def test_cdi_kinds(kind: str) -> None:
    assert cdi_kind_problem(kind) is None
    assert cdi_device_problem(f"{kind}=0000:3a:00.0") is None


@pytest.mark.parametrize("kind", ["", "a", "a.com/", "/gpu", "1a/b", "a b/c", "a.com/gpu!", "a-/b"])
def test_what_is_not_a_cdi_kind(kind: str) -> None:
    assert cdi_kind_problem(kind) is not None
    assert cdi_device_problem(f"{kind}=x") is not None


@pytest.mark.parametrize("name", ["", "a b", "-a", "a:", "ä"])
def test_what_is_not_a_cdi_name(name: str) -> None:
    assert cdi_name_problem(name) is not None
    assert cdi_device_problem(f"a.com/b={name}") is not None


def test_a_cdi_name_has_an_equals_sign() -> None:
    assert cdi_device_problem("a.com/b") == "it has no '=' between kind and name"


@pytest.mark.parametrize(
    ("parent", "what"), [("a", "itself"), ("gone", "not a device of this vendor")]
)
def test_a_parent_that_is_none_is_told_as_what_it_is(parent: str, what: str) -> None:
    found, refused = checked("ours", Discovery(devices=(device("a", parent=DeviceID(parent)),)))
    assert [d.parent for d in found.devices] == [None]
    assert [(r.device, r.reason) for r in refused] == [("a", f"its parent '{parent}' is {what}")]


def test_a_device_that_is_not_offered_contests_no_resource() -> None:
    mine, hidden = device("a", resource="shared.com/gpu"), device("b", "theirs", resource=None)
    found = admitted("theirs", Discovery(devices=(hidden,)), [mine], ORDER)
    assert (found.devices, found.refused) == ((hidden,), ())


def test_a_weaker_vendor_that_contests_nothing_is_not_displaced() -> None:
    others = [device("a", "theirs", resource="x.com/y"), device("b", "acme", resource="acme.com/z")]
    found = admitted("ours", Discovery(devices=(device("a"),)), others, (*ORDER, "acme"))
    assert set(found.displaced) == {"theirs"}
