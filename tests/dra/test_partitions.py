"""GPUs that can be cut, and devices that several claims share: golden slices for each vendor and
release, and a scheduler that has them of the API server's stub. `SLICES=write` renews the files."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.dra.attributes import Seen
from deviceplugin.dra.gates import GATES, Cluster
from deviceplugin.dra.limits import Policy, SliceDevice, fitted
from deviceplugin.dra.names import device_names
from deviceplugin.dra.partitions import Placement, placements
from deviceplugin.dra.publisher import Publisher
from deviceplugin.dra.shares import Shares, shares_of
from deviceplugin.dra.slices import Offered, Pool, SlicePlan, plan_slices
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.resources.section import MemorySlices, Offer
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.drascheduler import UnschedulableError
from deviceplugin.vendor.partitions import Modes, PartitionedGpu
from tests.dra.test_slices import GOLDEN, fault, gpu
from tests.provision.products import CASES, layouts, product

GIB = 1 << 30
ALL = frozenset(GATES)
SHARED = Shares(count=4, unit_bytes=GIB, memory_bytes=80 * GIB)


def a_gpu(name: str = "H100-80GB", number: int = 0) -> tuple[Device, PartitionedGpu]:
    found = replace(product(name), id=f"GPU-{number:04}")
    whole = gpu(number, product=found.product, memory_bytes=80 * GIB)
    return whole, found


def with_mig(found: PartitionedGpu, **values: bool) -> PartitionedGpu:
    assert found.mig is not None
    return replace(found, mig=replace(found.mig, **values))


def offers(*gpus: tuple[Device, PartitionedGpu], parts: Sequence[Device] = ()) -> list[Offered]:
    cut = {device.id: found for device, found in gpus}
    devices = [device for device, _ in gpus] + list(parts)
    return [
        Offered(name=name, device=device, seen=Seen(), gpu=cut.get(device.id))
        for name, device in device_names(devices).items()
    ]


def instance(profile: str, number: int, start: int, size: int) -> Device:
    place = {"instance_profile": number, "placement_start": start, "placement_size": size}
    return Device(
        id=DeviceID(f"MIG-{start}"),
        vendor="nvidia",
        parent=gpu(0).id,
        profile=profile,
        resource=ResourceName("nvidia.com/mig"),
        nodes=("/dev/nvidia0",),
        attributes={key: str(value) for key, value in place.items()},
    )


def mi300x() -> tuple[Device, PartitionedGpu]:
    device = Device(
        id=DeviceID("0000:05:00.0"),
        vendor="amd",
        product="AMD Instinct MI300X",
        resource=ResourceName("amd.com/gpu"),
        index=0,
        pci_address="0000:05:00.0",
        memory_bytes=192 * GIB,
        nodes=("/dev/kfd", "/dev/dri/renderD128"),
        attributes={"compute_units": "304"},
    )
    modes = Modes(compute="SPX", available=("SPX", "DPX", "QPX", "CPX"), memory="NPS1", dies=8)
    found = PartitionedGpu(
        id=device.id,
        vendor="amd",
        product="AMD Instinct MI300X",
        index=0,
        address=device.id,
        device="0x74A11002",
        modes=modes,
    )
    return device, found


def b60() -> Device:
    return Device(
        id=DeviceID("0000:03:00.0"),
        vendor="intel",
        resource=ResourceName("intel.com/gpu"),
        pci_address="0000:03:00.0",
        memory_bytes=24 * GIB,
        attributes={"device_id": "0xe211"},
    )


def plan(found: Sequence[Offered], minor: int = 36, driver: str = "gpu.nvidia.com") -> SlicePlan:
    cluster = Cluster(minor=minor, on=ALL)
    return plan_slices(Pool(driver=driver, node="node-1", cluster=cluster), found)


def shared_gpu(shares: Shares = SHARED) -> list[Offered]:
    (one,) = offers((gpu(0, memory_bytes=80 * GIB), product("H100-80GB")))
    return [replace(one, gpu=None, shares=shares)]


def golden_cases() -> Mapping[str, tuple[list[Offered], int, str]]:
    amd, intel = mi300x(), b60()
    slices = Shares(unit_bytes=4 * GIB, memory_bytes=24 * GIB)
    of_intel = Offered(name="b60", device=intel, seen=Seen(), shares=slices)
    there = instance("1g.6gb", 14, 3, 1)
    return {
        "mig-1.34": (offers(a_gpu("A30")), 34, "gpu.nvidia.com"),
        "mig-1.36": (offers(a_gpu("A30"), parts=[there]), 36, "gpu.nvidia.com"),
        "modes-1.36": (offers(amd), 36, "gpu.amd.com"),
        "shares-nvidia-1.36": (shared_gpu(), 36, "gpu.nvidia.com"),
        "shares-intel-1.37": ([of_intel], 37, "gpu.intel.com"),
    }


@pytest.mark.parametrize("case", golden_cases())
def test_what_can_be_cut_or_shared_is_published_as_its_golden_slices(case: str) -> None:
    found, minor, driver = golden_cases()[case]
    planned = plan(found, minor, driver)
    assert not planned.dropped
    slices = {"specs": list(planned.specs)}
    golden = GOLDEN / f"{case}.json"
    if os.environ.get("SLICES") == "write":
        golden.write_text(json.dumps(slices, indent=2) + "\n")
    assert slices == json.loads(golden.read_text())


@pytest.mark.parametrize("make", [a_gpu, mi300x])
def test_links_are_of_a_whole_gpu_and_not_of_its_parts(make: Callable[[], Any]) -> None:
    (one,) = offers(make())
    linked = replace(one, seen=Seen(link_group="g"))
    devices = [device for spec in plan([linked]).specs for device in spec.get("devices", ())]
    assert len(devices) > 1
    assert [d["name"] for d in devices if "linkGroup" in d["attributes"]] == [one.name]


class Cluster1:
    """A publisher of what is offered, an API server with every gate on, and its scheduler."""

    def __init__(self, found: Sequence[Offered], minor: int = 36, node: str = "node-1") -> None:
        self.api = ApiServer(node, minor)
        self.api.gates = set(GATES)
        self.publisher = Publisher("gpu.nvidia.com", node, lambda *_: plan(found, minor), self.api)
        assert self.publisher.write(plan(found, minor))
        self.count = 0

    def claim(self, asked: Mapping[str, str] | None = None, **wanted: str) -> str:
        """The device that a claim gets."""
        self.count += 1

        def match(device: dict[str, Any]) -> bool:
            values = device.get("attributes", {})
            return all(values.get(key, {}).get("string") == text for key, text in wanted.items())

        claim = self.api.schedule(f"c{self.count}", f"u{self.count}", match, asked)
        assert not self.api.overdrawn()
        return str(claim["status"]["allocation"]["devices"]["results"][0]["device"])


@pytest.mark.parametrize("minor", [34, 35, 36, 37])
def test_the_api_server_takes_every_release_in_its_own_form(minor: int) -> None:
    cluster = Cluster1(offers(*(a_gpu(number=number) for number in range(8))), minor)
    specs = [one["spec"] for one in cluster.api.slices.values()]
    together = [spec for spec in specs if spec.get("sharedCounters") and spec.get("devices")]
    assert len(together) == (8 if minor == 34 else 0)
    assert len(specs) == (8 if minor == 34 else 9)
    assert len(cluster.api.devices) == 8 * 26
    assert cluster.publisher.write(plan(offers(*(a_gpu(number=n) for n in range(8))), minor))
    assert len(cluster.api.writes()) == len(specs)


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_every_published_layout_can_be_claimed_and_no_gpu_is_cut_beyond_its_slices(
    name: str, layout: str
) -> None:
    device, found = a_gpu(name)
    cluster = Cluster1(offers((device, with_mig(found, live=True))))
    wanted = sorted(layouts(name)[layout].items(), key=lambda one: -int(one[0].partition("g")[0]))
    for profile, count in wanted:
        for _ in range(count):
            assert "-mig-" in cluster.claim(profile=profile)
    with pytest.raises(UnschedulableError):
        cluster.claim(type="gpu")


def test_a_gpu_that_is_claimed_whole_has_no_parts_left_and_the_other_way_round() -> None:
    cluster = Cluster1(offers(a_gpu(), a_gpu(number=1)))
    assert cluster.claim(type="gpu") == "gpu-0"
    assert cluster.claim(profile="1g.10gb") == "gpu-1-mig-1g10gb-19-3"
    with pytest.raises(UnschedulableError):
        cluster.claim(type="gpu")
    with pytest.raises(UnschedulableError):
        cluster.claim(profile="7g.80gb")
    assert cluster.claim(profile="3g.40gb") == "gpu-1-mig-3g40gb-9-4"


@pytest.mark.parametrize(
    ("product", "profile", "starts"),
    [
        ("H100-80GB", "1g.10gb", [3, 2, 1, 0, 5, 4, 6]),
        ("H100-80GB", "2g.20gb", [2, 0, 4]),
        ("H100-80GB", "1g.20gb", [6, 4, 2, 0]),
        ("H100-80GB", "3g.40gb", [4, 0]),
        ("A30", "1g.6gb", [3, 2, 1, 0]),
    ],
)
def test_places_come_first_that_leave_no_slice_to_larger_instances_alone(
    product: str, profile: str, starts: list[int]
) -> None:
    cluster = Cluster1(offers(a_gpu(product)))
    names = [cluster.claim(profile=profile) for _ in starts]
    assert [int(name.rpartition("-")[2]) for name in names] == starts


def test_names_of_devices_say_what_has_to_be_made() -> None:
    device, found = a_gpu()
    amd, cut = mi300x()
    known = placements({"gpu-0": device, "gpu-0-128": amd}, {device.id: found, amd.id: cut})
    wanted = Placement(gpu=device.id, profile="1g.10gb+me", start=3)
    assert known["gpu-0-mig-1g10gb-me-20-3"] == wanted
    assert known["gpu-0-cpx-nps1"] == Placement(gpu=amd.id, profile="CPX")


def test_an_instance_that_is_there_and_stays_keeps_claims_off_its_memory() -> None:
    there = instance("2g.20gb", 14, 2, 2)
    found = offers(a_gpu(), parts=[there])
    (devices,) = [spec["devices"] for spec in plan(found).specs if spec.get("devices")]
    tainted = {one["name"] for one in devices if "taints" in one}
    assert {"gpu-0", "gpu-0-mig-1g10gb-19-3", "gpu-0-mig-4g40gb-5-0"} <= tainted
    assert not {"gpu-0-mig-2g20gb-14-2", "gpu-0-mig-3g40gb-9-4"} & tainted
    sets = {tuple(one["attributes"]) for one in devices if "-mig-" in one["name"]}
    assert len(sets) == 1  # whether it is there or not
    ours = [replace(one, stays=False) for one in found]
    assert not [d for s in plan(ours).specs for d in s.get("devices", ()) if "taints" in d]


def test_a_fault_of_a_gpu_is_a_taint_of_all_its_parts_and_one_update() -> None:
    cluster = Cluster1(offers(a_gpu(), a_gpu(number=1)))
    found = offers(a_gpu(), a_gpu(number=1))
    sick = [replace(found[0], faults=(fault(),)), *found[1:]]
    before = len(cluster.api.writes())
    assert cluster.publisher.write(plan(sick))
    assert [one.split()[0] for one in cluster.api.writes()[before:]] == ["PUT"]
    tainted = [name for name, one in cluster.api.devices.items() if "taints" in one]
    assert len(tainted) == 26


@pytest.mark.parametrize("gate", ["DRAPartitionableDevices", "DRAConsumableCapacity"])
def test_without_the_gate_a_gpu_is_whole(gate: str) -> None:
    cluster = Cluster(minor=36, lacking=frozenset({gate}))
    pool = Pool(driver="gpu.nvidia.com", node="node-1", cluster=cluster)
    found = offers(a_gpu()) if gate == "DRAPartitionableDevices" else shared_gpu()
    (spec,) = plan_slices(pool, found).specs
    (device,) = spec["devices"]
    assert not {"consumesCounters", "allowMultipleAllocations"} & device.keys()


@pytest.mark.parametrize("found", [offers(a_gpu()), shared_gpu()], ids=["cut", "shared"])
def test_a_server_that_drops_the_fields_has_no_device_that_could_be_given_twice(
    found: list[Offered],
) -> None:
    api = ApiServer()
    api.gates = {"DRADeviceTaints"}

    def planned(minor: int, lacking: frozenset[str]) -> SlicePlan:
        cluster = Cluster(minor=minor, lacking=lacking)
        return plan_slices(Pool(driver="d", node="node-1", cluster=cluster), found)

    publisher = Publisher("d", "node-1", planned, api)
    publisher.bring_up_to_date()
    assert list(api.devices) == ["gpu-0"]
    written = len(api.writes())
    publisher.bring_up_to_date()
    assert len(api.writes()) == written


def test_an_ampere_gpu_is_what_its_mode_makes_it() -> None:
    device, found = a_gpu("A100-80GB")
    names = [d["name"] for s in plan(offers((device, found))).specs for d in s.get("devices", ())]
    assert "gpu-0" not in names
    off = with_mig(found, enabled=False)
    (spec,) = plan(offers((device, off))).specs
    assert [one["name"] for one in spec["devices"]] == ["gpu-0"]


def test_a_shared_gpu_is_given_to_as_many_claims_as_have_room() -> None:
    cluster = Cluster1(shared_gpu())
    assert [cluster.claim({"memory": "10Gi"}) for _ in range(4)] == ["gpu-0"] * 4
    with pytest.raises(UnschedulableError):
        cluster.claim()
    cluster = Cluster1(shared_gpu())
    cluster.claim({"memory": "79500Mi"})
    cluster.claim()
    with pytest.raises(UnschedulableError):
        cluster.claim({"memory": "3Gi"})


def test_memory_slices_alone_are_all_of_a_gpu_for_a_claim_that_names_no_amount() -> None:
    cluster = Cluster1(shared_gpu(Shares(unit_bytes=GIB, memory_bytes=80 * GIB)))
    cluster.claim()
    with pytest.raises(UnschedulableError):
        cluster.claim({"memory": "1Gi"})


def test_the_rules_decide_how_a_device_is_shared() -> None:
    device = gpu(0, memory_bytes=80 * GIB)
    memory = Offer(memory=MemorySlices(unit="4GiB", reserve="2GiB"))
    assert shares_of(device, [Offer(whole=True)]) is None
    assert shares_of(device, [Offer(replicas=4, sharing="mps")]) is None
    assert shares_of(device, [Offer(replicas=4)]) == Shares(count=4)
    assert shares_of(device, [memory]) == Shares(unit_bytes=4 * GIB, memory_bytes=76 * GIB)
    assert shares_of(replace(device, shareable=False), [memory]) is None


@pytest.mark.parametrize(
    ("policy", "fits"),
    [
        (Policy(default=8), True),
        (Policy(default=9), False),
        (Policy(default=2, least=2, step=2), True),
        (Policy(default=3, least=2, step=2), False),
        (Policy(default=8, least=8, step=2), False),
        (Policy(default=1, least=2), False),
    ],
)
def test_a_policy_that_the_api_server_refuses_costs_the_device(
    policy: Policy, *, fits: bool
) -> None:
    device = SliceDevice(name="d", attributes={}, capacity={"m": 8}, policies={"m": policy})
    assert (fitted(device) is not None) is fits
