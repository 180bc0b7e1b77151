"""The shares that a container gets, as the vendor is told of them."""

from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.model import ContainerEdits, Device, DeviceID, Resource
from deviceplugin.resources.grants import Granted, granted
from deviceplugin.resources.section import SharingSection
from tests.resources.builders import GIB, SHARING, gpu, inventory, sharing

SECTION = SHARING()


def resource(offer: Any, *devices: Device) -> Resource:
    (found,) = sharing({"offers": [offer]}).plan(inventory(*devices)).resources.values()
    return found


def given(offer: Any, count: int, *devices: Device, section: SharingSection = SECTION) -> Granted:
    """The first ids of each device."""
    found = resource(offer, *devices)
    entries = [e for d in devices for e in [e for e in found.devices if e.device == d.id][:count]]
    return granted(found, entries, {device.id: device for device in devices}, section)


def test_a_container_with_whole_devices_has_no_shares_and_no_variables() -> None:
    assert given("whole", 1, gpu(0)) == Granted(edits=ContainerEdits(), grants=())


@pytest.mark.parametrize(
    ("offer", "count", "memory_bytes", "percent"),
    [
        ({"replicas": 3}, 1, 40 * GIB // 3, 33),
        ({"replicas": 3, "max_per_container": 2}, 2, 40 * GIB // 3 * 2, 66),
        ({"memory": {"unit": "10GiB"}}, 1, 10 * GIB, 25),
        ({"memory": {"unit": "1GiB"}}, 13, 13 * GIB, 32),
    ],
    ids=["a replica", "two replicas", "a slice", "13 slices"],
)
def test_a_share_is_told_in_bytes_and_percent(
    offer: Any, count: int, memory_bytes: int, percent: int
) -> None:
    (grant,) = given(offer, count, gpu(0, 40)).grants
    assert (grant.count, grant.memory_bytes, grant.percent) == (count, memory_bytes, percent)
    assert grant.device == gpu(0, 40)


def test_of_a_device_of_unknown_memory_the_replicas_part_is_known_and_its_bytes_are_not() -> None:
    made = given({"replicas": 4}, 1, gpu(0, memory_bytes=None))
    assert (made.grants[0].memory_bytes, made.grants[0].percent) == (None, 25)
    assert set(made.edits.env) == {"GPU_SHARE_ISOLATION"}


def test_the_percent_of_a_slice_of_unknown_memory_is_unknown() -> None:
    known = gpu(0, 40)
    found = resource({"memory": {"unit": "10GiB"}}, known)
    unknown = replace(known, memory_bytes=None)
    (grant,) = granted(found, found.devices[:1], {known.id: unknown}, SECTION).grants
    assert (grant.memory_bytes, grant.percent) == (10 * GIB, None)


def test_shares_are_in_pci_order_with_those_of_no_address_first() -> None:
    devices = (
        gpu(0, 40, pci_address="0000:0f:00.0"),
        gpu(1, 40, pci_address="0000:01:00.0"),
        gpu(2, 40, pci_address=None),
    )
    made = given({"replicas": 2}, 1, *devices)
    assert [grant.device.index for grant in made.grants] == [2, 1, 0]


def test_amounts_are_told_of_the_devices_whose_memory_is_known() -> None:
    made = given({"replicas": 2}, 1, gpu(0, 40), gpu(1, memory_bytes=None))
    assert made.edits.env["GPU_SHARE_MEMORY_BYTES"] == f"{gpu(0).id}={20 * GIB}"
    assert made.edits.env["GPU_SHARE_MEMORY_MIB"] == f"{gpu(0).id}=20480"


def test_a_method_of_a_vendor_that_is_not_there_adds_nothing() -> None:
    offer = {"replicas": 2, "sharing": "mps"}
    assert "CUDA_MPS_PIPE_DIRECTORY" in given(offer, 1, gpu(0)).edits.env
    alone = given(offer, 1, gpu(0), section=SharingSection())
    assert set(alone.edits.env) == {
        *("GPU_SHARE_ISOLATION", "GPU_SHARE_MEMORY_BYTES", "GPU_SHARE_MEMORY_MIB")
    }


def test_joined_replicas_tell_no_amount_for_their_memory_does() -> None:
    rule = {"joined": True, "offers": [{"replicas": 2}, {"memory": {}}]}
    plan = sharing(rule).plan(inventory(gpu(0, 40)))
    replicas, memory = plan.resources.values()
    devices = {gpu(0).id: gpu(0, 40)}
    made = granted(replicas, replicas.devices[:1], devices, SECTION)
    assert (made.grants, dict(made.edits.env)) == ((), {"GPU_SHARE_ISOLATION": "none"})
    made = granted(memory, memory.devices[:2], devices, SECTION)
    assert made.grants[0].memory_bytes == 2 * GIB
    assert made.edits.env["GPU_SHARE_MEMORY_MIB"] == f"{gpu(0).id}=2048"


def test_shares_of_one_device_are_one_grant_and_of_two_are_two() -> None:
    made = given({"memory": {"unit": "10GiB"}}, 2, gpu(0, 40), gpu(1, 40, id=DeviceID("b")))
    assert [(g.device.index, g.count) for g in made.grants] == [(0, 2), (1, 2)]
