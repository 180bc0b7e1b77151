"""Allocate's choice and refusals, and the merging of edits."""

import pytest

from deviceplugin.edits import VfioFunction, kubevirt_variable, merge_edits, vfio_edits
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    Health,
    Mount,
    ResourceName,
    Share,
)
from deviceplugin.names import size_class
from deviceplugin.resources.allocation import capacities, devices_of, gpu_of, select
from deviceplugin.schema import parse_bytes

GPU = ResourceName("example.com/gpu")
ENTRIES = {
    name: AdvertisedDevice(id=AdvertisedID(name), device=DeviceID(name[0]), health=health)
    for name, health in (
        ("a::0", Health.HEALTHY),
        ("a::1", Health.HEALTHY),
        ("b::0", Health.HEALTHY),
        ("z::0", Health.UNHEALTHY),
    )
}
ENTRIES["u::0"] = AdvertisedDevice(
    id=AdvertisedID("u::0"),
    device=DeviceID("u"),
    health=Health.UNHEALTHY,
    reason="in_use_as example.com/other",
)


@pytest.mark.parametrize(
    ("ids", "refusal", "text"),
    [
        ([], Refusal.EMPTY, "names no device"),
        (["a::0", "a::0"], Refusal.DUPLICATE, "a::0 is asked for twice"),
        (["q"], Refusal.UNKNOWN, "unknown device q"),
        (["a::0", "b::0", "b::0"], Refusal.DUPLICATE, "b::0 is asked for twice"),
        (["q\n"], Refusal.UNKNOWN, "unknown device 'q\\n'"),
        (["a::0", "z::0"], Refusal.UNHEALTHY, "z::0 is unhealthy"),
        (["u::0"], Refusal.IN_USE, "device u::0: in_use_as example.com/other"),
    ],
    ids=["empty", "duplicate", "unknown", "which one twice", "no text", "unhealthy", "in use"],
)
def test_a_bad_request_is_refused_in_one_line_with_resource_and_id(
    ids: list[str], refusal: Refusal, text: str
) -> None:
    with pytest.raises(AllocationError) as caught:
        select(GPU, ENTRIES, ids)
    assert caught.value.refusal is refusal
    assert str(caught.value).startswith(GPU)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_entries_come_in_id_order_whatever_the_kubelets_order() -> None:
    assert [e.id for e in select(GPU, ENTRIES, ["b::0", "a::1", "a::0"])] == [
        "a::0",
        "a::1",
        "b::0",
    ]


def test_a_device_of_two_replicas_is_there_once() -> None:
    devices = {DeviceID(n): Device(id=DeviceID(n), vendor="example") for n in "ab"}
    found = devices_of(GPU, select(GPU, ENTRIES, ["b::0", "a::1", "a::0"]), devices)
    assert [d.id for d in found] == ["a", "b"]


def test_a_device_that_left_the_inventory_is_refused() -> None:
    with pytest.raises(AllocationError, match="a::0 is gone"):
        devices_of(GPU, select(GPU, ENTRIES, ["a::0"]), {})


def test_merged_edits_have_each_path_once_and_sorted_variables() -> None:
    node, other = (DeviceNode(path="/dev/x", host_path=h) for h in ("/dev/x", "/host/x"))
    merged = merge_edits(
        [
            ContainerEdits(env={"B": "1", "A": "1"}, device_nodes=(node,)),
            ContainerEdits(
                env={"B": "2"}, device_nodes=(other,), mounts=(Mount(path="/m", host_path="/m"),)
            ),
        ]
    )
    assert dict(merged.env) == {"A": "1", "B": "2"}
    assert list(merged.env) == ["A", "B"]
    assert merged.device_nodes == (node,)
    assert [m.path for m in merged.mounts] == ["/m"]


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (4261412864, "4gb"),
        (8522825728, "8gb"),
        (2483027968, "2gb"),
        (503316480, "480mb"),
        (25367150592, "24gb"),
    ],
)
def test_a_size_class_is_the_nearest_unit(size: int, name: str) -> None:
    assert size_class(size) == name


def test_a_virtual_machine_gets_all_addresses_and_the_shared_node_once() -> None:
    resource = ResourceName("amd.com/mxgpu-4gb-vfio")
    edits = vfio_edits(
        resource,
        [
            VfioFunction(address="0000:c3:02.1", nodes=("/dev/vfio/219",)),
            VfioFunction(address="0000:c3:02.0", nodes=("/dev/vfio/218",)),
        ],
    )
    assert dict(edits.env) == {"PCI_RESOURCE_AMD_COM_MXGPU-4GB-VFIO": "0000:c3:02.0,0000:c3:02.1"}
    assert [(n.path, n.permissions) for n in edits.device_nodes] == [
        ("/dev/vfio/vfio", "mrw"),
        ("/dev/vfio/218", "mrw"),
        ("/dev/vfio/219", "mrw"),
    ]
    assert kubevirt_variable("MDEV_PCI_RESOURCE", resource).startswith("MDEV_PCI_RESOURCE_AMD_COM")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GiB", 5 << 30),
        ("5Gi", 5 << 30),
        ("512MiB", 512 << 20),
        ("4GB", 4 * 10**9),
        ("7", 7),
        ("9007199254740993", 2**53 + 1),
        ("1024TiB", 1 << 50),
    ],
)
def test_memory_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "5 bananas", "0GiB", "5GiB5", "1048577TiB", "9" * 400]
)
def test_memory_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory size"):
        parse_bytes(text)


def test_a_device_that_is_given_whole_has_one_share() -> None:
    shares = {DeviceID("whole"): None, DeviceID("cut"): Share(count=4)}
    assert capacities(shares) == {"whole": 1, "cut": 4}


def test_a_partition_counts_as_the_gpu_that_it_is_of() -> None:
    part = DeviceID("part")
    assert gpu_of(part, Share(count=2, whole=DeviceID("gpu"))) == "gpu"
    assert gpu_of(part, Share(count=2)) == part
    assert gpu_of(part, None) == part
