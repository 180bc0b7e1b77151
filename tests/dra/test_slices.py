"""What an inventory is published as: golden slices of each vendor, and every limit held before
the API server sees anything. `SLICES=write` renews the golden files."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.dra.attributes import Seen
from deviceplugin.dra.document import quantity
from deviceplugin.dra.gates import Cluster
from deviceplugin.dra.limits import (
    MAX_TAINTS,
    SliceDevice,
    Taint,
    Version,
    dropped,
    fitted,
    parse_version,
)
from deviceplugin.dra.names import device_names, driver_of, published
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.slices import Offered, Pool, plan_slices
from deviceplugin.model import Device, DeviceID, Discovery, Fault, FaultClass, ResourceName
from deviceplugin.testing.hardware.replay import replayed

CAPTURES = Path(__file__).parents[1] / "captures"
GOLDEN = Path(__file__).parent / "golden"
NODES = {
    "nvidia-h200-x1-580.159.04": "nvidia",
    "simulated-h100-x4": "nvidia",
    "simulated-mi300x-x2": "amd",
    "simulated-b60-x1": "intel",
}
POOL = Pool(driver="gpu.nvidia.com", node="node-1", cluster=Cluster(minor=36))
BROKEN = FaultClass.HARDWARE


def gpu(number: int, **values: Any) -> Device:
    return Device(
        id=DeviceID(f"GPU-{number:04}"),
        vendor="nvidia",
        resource=ResourceName("nvidia.com/gpu"),
        nodes=(f"/dev/nvidia{number}",),
        pci_address=f"0000:{number:02x}:00.0",
        **values,
    )


def offered(devices: Sequence[Device], **values: Any) -> Iterator[Offered]:
    for name, device in device_names(devices).items():
        yield Offered(name=name, device=device, seen=Seen(), **values)


def fault(kind: FaultClass = BROKEN, code: str = "79") -> Fault:
    return Fault(device=DeviceID("x"), source="nvidia.xid", code=code, reason="", kind=kind)


def of_discovery(found: Discovery, minor: int) -> dict[str, Any]:
    devices = published(found.devices, DraSection())
    (driver,) = {driver_of(device, DraSection()) for device in devices}
    seen = Seen(driver_version=found.driver_version, pcie_root="pci0000:00")
    plan = plan_slices(
        Pool(driver=driver, node="node-1", cluster=Cluster(minor=minor)),
        [
            Offered(name=name, device=device, seen=seen)
            for name, device in device_names(devices).items()
        ],
    )
    assert not plan.dropped
    return {"specs": list(plan.specs)}


@pytest.mark.parametrize("capture", NODES)
def test_a_node_is_published_as_its_golden_slices(capture: str, tmp_path: Path) -> None:
    found = replayed(CAPTURES / capture, NODES[capture], tmp_path).discover()
    slices = of_discovery(found, 36)
    golden = GOLDEN / f"{capture}.json"
    if os.environ.get("SLICES") == "write":
        golden.write_text(json.dumps(slices, indent=2) + "\n")
    assert slices == json.loads(golden.read_text())
    assert of_discovery(found, 34) == slices  # nothing is gated while nothing is wrong


def test_a_node_without_devices_has_one_empty_slice() -> None:
    (spec,) = plan_slices(POOL, ()).specs
    assert spec["devices"] == []
    assert spec["pool"] == {"name": "node-1", "generation": 0, "resourceSliceCount": 1}


def test_a_pool_of_many_devices_has_slices_of_64_where_there_are_taints_and_of_128_before() -> None:
    many = list(offered([gpu(n) for n in range(130)]))
    for minor, sizes in ((36, [64, 64, 2]), (34, [128, 2])):
        specs = plan_slices(Pool(driver="d", node="n", cluster=Cluster(minor=minor)), many).specs
        assert [len(spec["devices"]) for spec in specs] == sizes
        assert {spec["pool"]["resourceSliceCount"] for spec in specs} == {len(sizes)}


def test_what_makes_a_device_unhealthy_is_a_taint_and_what_does_not_is_none() -> None:
    faults = (fault(), fault(FaultClass.WARN, "row_remap"))
    (spec,) = plan_slices(POOL, offered([gpu(0)], faults=faults)).specs
    taint = {"key": "gpu.nvidia.com/79", "value": "nvidia.xid", "effect": "NoSchedule"}
    assert spec["devices"][0]["taints"] == [taint]


def test_a_device_that_the_device_plugin_has_given_away_is_tainted() -> None:
    (spec,) = plan_slices(POOL, offered([gpu(0)], elsewhere=True)).specs
    assert [taint["key"] for taint in spec["devices"][0]["taints"]] == ["gpu.nvidia.com/in-use"]


def test_without_taints_a_faulty_device_is_left_out_unless_a_claim_holds_it() -> None:
    pool = Pool(driver="d", node="n", cluster=Cluster(minor=34))
    (free,) = plan_slices(pool, offered([gpu(0)], faults=(fault(),))).specs
    (held,) = plan_slices(pool, offered([gpu(0)], faults=(fault(),), claimed=True)).specs
    assert free["devices"] == []
    assert [device["name"] for device in held["devices"]] == ["gpu-0"]
    assert "taints" not in held["devices"][0]


def test_names_are_those_of_the_vendors_drivers_and_never_given_twice() -> None:
    twins = [gpu(0), Device(id=DeviceID("GPU-else"), vendor="nvidia", nodes=("/dev/nvidia0",))]
    assert list(device_names([gpu(0), gpu(3)])) == ["gpu-0", "gpu-3"]
    names = list(device_names(twins))
    assert len(set(names)) == 2
    assert "gpu-0" not in names


def test_ids_that_differ_only_in_what_a_label_cannot_have_have_two_names() -> None:
    ids = [DeviceID("a:b"), DeviceID("a-b"), DeviceID("x" * 63), DeviceID("x" * 62 + "y")]
    names = device_names(Device(id=device, vendor="acme") for device in ids)
    assert len(names) == 4
    assert all(fitted(SliceDevice(name=n, attributes={}, capacity={})) for n in names)


def test_another_vendor_has_a_driver_of_its_own_domain_and_one_driver_can_be_that_of_all() -> None:
    npu = Device(id=DeviceID("n"), vendor="acme", resource=ResourceName("acme.example/npu"))
    assert driver_of(npu, DraSection()) == "gpu.acme.example"
    assert driver_of(gpu(0), DraSection(driver="gpu.example.com")) == "gpu.example.com"


@pytest.mark.parametrize(
    "values",
    [
        {"driver": "vfio-pci"},
        {"driver": "xe-vfio-pci"},
        {"driver": "nvidia-vgpu-vfio"},
        {"functions": ("0000:01:00.1",)},
    ],
)
def test_what_only_a_virtual_machine_can_use_is_not_published(values: dict[str, Any]) -> None:
    assert published([gpu(0), gpu(1, **values)], DraSection()) == (gpu(0),)
    assert published([gpu(1, **values)], DraSection(), {gpu(1).id}) == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("570.86.03", Version("570.86.3")),
        ("13.2", Version("13.2.0")),
        ("8.0", Version("8.0.0")),
        ("1.2.3-rc.1", Version("1.2.3-rc.1")),
        ("6.12.12.60300", "6.12.12.60300"),
        ("1.²", "1.²"),
        ("i915", "i915"),
    ],
)
def test_a_version_has_three_numbers_without_leading_zeros_or_is_a_text(
    text: str, value: object
) -> None:
    assert parse_version(text) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("long", "x" * 65),
        ("k" * 33, "x"),
        ("no/t/one", "x"),
        ("UPPER.example/name", "x"),
        ("9lives", "x"),
        ("version", Version("1.02.3")),
        ("number", 2**63),
    ],
)
def test_what_the_api_server_refuses_costs_the_attribute_and_not_the_device(
    key: str, value: Any
) -> None:
    device = SliceDevice(name="gpu-0", attributes={"uuid": "u", key: value}, capacity={"memory": 1})
    fits = fitted(device)
    assert fits is not None
    assert fits.attributes == {"uuid": "u"}
    assert len(list(dropped(device, fits))) == 1


def test_attributes_and_capacities_are_32_together_and_taints_16() -> None:
    device = SliceDevice(
        name="gpu-0",
        attributes={f"a{n}": n for n in range(40)},
        capacity={"memory": 1, "negative": -1},
        taints=tuple(Taint(key=f"d/t{n:02}") for n in range(20)),
    )
    fits = fitted(device)
    assert fits is not None
    assert len(fits.attributes) + len(fits.capacity) == 32
    assert len(fits.taints) == MAX_TAINTS
    assert len(list(dropped(device, fits))) == 9 + 1 + 4


def test_a_device_whose_name_is_no_label_is_not_published() -> None:
    device = SliceDevice(name="GPU_0", attributes={}, capacity={})
    assert fitted(device) is None
    assert list(dropped(device, None)) == ["device 'GPU_0': its name is not a DNS label"]


def test_devices_of_a_type_have_the_same_attributes_and_capacities() -> None:
    memory = [gpu(n, memory_bytes=80 << 30, numa_node=0) for n in range(2)]
    odd = gpu(2, memory_bytes=80 << 30)
    unread = gpu(3, numa_node=0)
    planned = plan_slices(POOL, offered([*memory, odd, unread]))
    (spec,) = planned.specs
    assert [one["name"] for one in spec["devices"]] == ["gpu-0", "gpu-1", "gpu-2"]
    assert len({tuple(one["attributes"]) for one in spec["devices"]}) == 1
    assert "resource.kubernetes.io/numaNode" not in spec["devices"][0]["attributes"]
    assert planned.dropped == ("device gpu-3: memory of it is not known, that of others is",)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (1, "1"), (1000, "1k"), (1024, "1Ki"), (80 << 30, "80Gi")),
        *((1536 << 20, "1536Mi"), (85899345921, "85899345921"), (5_000_000, "5M")),
    ],
)
def test_quantities_are_written_as_the_api_server_gives_them_back(number: int, text: str) -> None:
    assert quantity(number) == text
