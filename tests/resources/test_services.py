"""Which program serves which resource, and when it may stay."""

from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.model import DeviceID, ResourceName, frozen
from deviceplugin.resources.services import Wanted, services_of
from deviceplugin.vendor import Program, SharedResource
from tests.resources.builders import GIB, gpu, inventory, sharing

GPU = ResourceName("nvidia.com/gpu")
MPS = {"replicas": 4, "sharing": "mps"}
SHARED = SharedResource(name=GPU, devices=(gpu(0), gpu(1)), replicas=4)
PROGRAM = Program(
    arguments=("serve",), env=frozen({"PLACE": "/run/serve"}), folders=("/run/serve",)
)
RUNNING = Wanted("mps", SHARED, PROGRAM)


def test_devices_are_in_pci_order_and_those_without_an_address_come_first() -> None:
    last, first = gpu(0, pci_address="0000:0f:00.0"), gpu(1, pci_address="0000:01:00.0")
    nowhere = gpu(2, pci_address=None)
    node = inventory(last, first, nowhere)
    plan = sharing({"offers": [MPS]}).plan(node)
    ((method, shared),) = services_of(plan.resources, node.devices).values()
    assert (method, shared.devices) == ("mps", (nowhere, first, last))


def test_a_resource_of_several_counts_has_the_largest() -> None:
    node = inventory(gpu(0), gpu(1))
    rules: list[Any] = [
        {"match": {"index": 0}, "offers": [{"replicas": 2, "sharing": "mps"}]},
        {"match": {"index": 1}, "offers": [{"replicas": 8, "sharing": "mps"}]},
    ]
    plan = sharing(*rules).plan(node)
    assert services_of(plan.resources, node.devices)[GPU][1].replicas == 8


def test_slices_have_no_number_of_replicas() -> None:
    node = inventory(gpu(0))
    plan = sharing({"offers": [{"memory": {"unit": "10GiB"}, "sharing": "mps"}]}).plan(node)
    ((_, shared),) = services_of(plan.resources, node.devices).values()
    assert shared.replicas is None


def test_a_resource_of_which_no_device_is_there_any_more_has_no_program() -> None:
    plan = sharing({"offers": [MPS]}).plan(inventory(gpu(0)))
    assert services_of(plan.resources, {}) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "other"},
        {"shared": replace(SHARED, replicas=5)},
        {"shared": replace(SHARED, devices=(gpu(0),))},
        {"program": replace(PROGRAM, arguments=("serve", "-v"))},
        {"program": replace(PROGRAM, env=frozen({"PLACE": "/elsewhere"}))},
        {"program": replace(PROGRAM, folders=())},
    ],
    ids=["method", "replicas", "devices", "arguments", "environment", "folders"],
)
def test_another_program_takes_the_place_of_the_one_that_runs(changed: Any) -> None:
    assert not RUNNING.same(replace(RUNNING, **changed))


def test_the_same_program_stays_when_a_devices_memory_is_another() -> None:
    grown = replace(SHARED, devices=(gpu(0, memory_bytes=GIB), gpu(1)))
    assert RUNNING.same(replace(RUNNING, shared=grown)) is True


def test_a_program_that_nothing_needs_any_more_does_not_stay() -> None:
    assert RUNNING.same(None) is False


def test_the_same_id_decides_where_addresses_are_equal() -> None:
    one, other = gpu(0, id=DeviceID("b")), gpu(0, id=DeviceID("a"))
    plan = sharing({"offers": [MPS]}).plan(inventory(one, other))
    ((_, shared),) = services_of(plan.resources, inventory(one, other).devices).values()
    assert [device.id for device in shared.devices] == ["a", "b"]
