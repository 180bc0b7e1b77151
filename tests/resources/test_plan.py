"""Planning: names, sizes, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.kubelet.wire import encoded_list
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Resource,
    ResourceName,
)
from deviceplugin.names import name_problem
from deviceplugin.resources.plan import (
    MAX_LIST_BYTES,
    list_bytes,
    plan_resources,
    resource_problem,
)

GPU = ResourceName("example.com/gpu")


def device(name: str, resource: str | None = GPU, parent: str | None = None) -> Device:
    return Device(
        id=DeviceID(name),
        vendor="example",
        resource=ResourceName(resource) if resource else None,
        parent=DeviceID(parent) if parent else None,
    )


def entry(name: str, health: Health = Health.HEALTHY, numa: int | None = None) -> AdvertisedDevice:
    return AdvertisedDevice(
        id=AdvertisedID(name), device=DeviceID(name), health=health, numa_node=numa
    )


def resource(*entries: AdvertisedDevice, name: str = GPU) -> Resource:
    return Resource(name=ResourceName(name), vendor="example", devices=entries)


def inventory(*devices: Device, faults: tuple[Fault, ...] = ()) -> Inventory:
    return Inventory(
        devices={d.id: d for d in devices},
        faults={f.device: (f,) for f in faults},
    )


def fault(name: str, kind: FaultClass = FaultClass.RESET) -> Fault:
    return Fault(device=DeviceID(name), source="example.x", code="x", reason="r", kind=kind)


def test_devices_are_grouped_by_resource_and_sorted_by_id() -> None:
    plan = plan_resources(inventory(device("b"), device("a"), device("c", "example.com/other")))
    assert {n: [e.id for e in r.devices] for n, r in plan.resources.items()} == {
        "example.com/gpu": ["a", "b"],
        "example.com/other": ["c"],
    }


def test_a_device_without_a_resource_is_not_offered() -> None:
    assert plan_resources(inventory(device("a", None))).resources == {}


@pytest.mark.parametrize(
    ("faulted", "unhealthy"),
    [("whole", ["part"]), ("part", ["part"]), ("other", [])],
)
def test_a_parents_fault_reaches_its_parts_and_never_upwards(
    faulted: str, unhealthy: list[str]
) -> None:
    found = inventory(
        device("whole", None), device("part", parent="whole"), faults=(fault(faulted),)
    )
    entries = plan_resources(found).resources[GPU].devices
    assert [e.id for e in entries if e.health is Health.UNHEALTHY] == unhealthy
    assert found.health_of(found.devices[DeviceID("whole")]) is (
        Health.UNHEALTHY if faulted == "whole" else Health.HEALTHY
    )


@pytest.mark.parametrize("kind", FaultClass)
def test_only_some_classes_of_fault_take_a_device_away(kind: FaultClass) -> None:
    (found,) = (
        plan_resources(inventory(device("a"), faults=(fault("a", kind),))).resources[GPU].devices
    )
    expected = kind in {
        FaultClass.SETUP,
        FaultClass.RESET,
        FaultClass.REBOOT,
        FaultClass.HARDWARE,
    }
    assert (found.health is Health.UNHEALTHY) == expected


@pytest.mark.parametrize(
    "name",
    [
        "gpu",
        "x.kubernetes.io/gpu",
        "requests.example.com/gpu",
        "EXAMPLE.com/gpu",
        f"{'a' * 245}/gpu",
        f"example.com/{'x' * 64}",
        "example.com/",
        "example.com/-x",
        "example.com/a b",
        "/gpu",
    ],
)
def test_names_that_the_kubelet_refuses_are_refused_at_planning(name: str) -> None:
    assert name_problem(name) is not None
    plan = plan_resources(inventory(device("a", name), device("b")))
    assert list(plan.resources) == [GPU]
    assert [p.resource for p in plan.problems] == [name]


@pytest.mark.parametrize(
    "name",
    ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb.me", "amd.com/cpx_nps4", f"a.b/{'x' * 63}"],
)
def test_names_of_the_field_are_taken(name: str) -> None:
    assert name_problem(name) is None


def test_a_list_beyond_the_kubelets_limit_is_refused_with_what_to_do() -> None:
    many = resource(*(entry(f"{number:063d}") for number in range(60_000)))
    problem = resource_problem(many)
    assert problem is not None
    assert "4194304" in problem.reason
    assert "fewer" in problem.action
    assert resource_problem(replace(many, devices=many.devices[:50_000])) is None


@given(
    st.lists(st.tuples(st.text("abc:-0", min_size=1, max_size=63), st.none() | st.integers(0, 7)))
)
def test_the_size_is_never_less_than_what_is_sent(rows: list[tuple[str, int | None]]) -> None:
    entries = [entry(name, Health.UNHEALTHY, numa) for name, numa in rows]
    assert len(encoded_list(resource(*entries)).message) <= list_bytes(entries)


def test_a_list_at_the_limit_is_measured_exactly() -> None:
    entries = [entry(f"{number:048d}", Health.UNHEALTHY) for number in range(1000)]
    assert len(encoded_list(resource(*entries)).message) == list_bytes(entries)
    assert list_bytes(entries) < MAX_LIST_BYTES
