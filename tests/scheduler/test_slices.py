"""What ResourceSlices and ResourceClaims do to a decision."""

from typing import Any

import msgspec
import pytest

from deviceplugin.dra.names import DRIVERS as OURS
from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, written
from deviceplugin.scheduler import published
from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.preempting import is_hopeless
from deviceplugin.scheduler.quantities import amount
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.slices import (
    CLASSES,
    MIG,
    OF_TYPE,
    Dra,
    bare,
    claim,
    claiming,
    device,
    device_class,
    golden,
    slice_of,
)

GPU = "nvidia.com/gpu"


def tainted(number: int, effect: str = "NoSchedule") -> Document:
    return device(number) | {"taints": [{"key": "gpu.nvidia.com/79", "effect": effect}]}


def four(name: str = "a", **more: Any) -> Document:
    return slice_of(name, [device(n, of=name, **more) for n in range(4)])


def dra(*nodes: str) -> Dra:
    made = Dra(*(bare(name) for name in nodes))
    made.slices(*(four(name) for name in nodes))
    return made


def test_the_drivers_are_those_under_whose_names_we_publish() -> None:
    assert set(OURS.values()) == published.DRIVERS


def test_gpus_that_claims_alone_can_have_are_none_for_resources() -> None:
    known = dra("a")
    assert known.free("a") == [1000] * 4
    assert known.misfit("a", pod("p", gpus=1)) == "0 GPUs free, 1 requested"
    assert known.cluster.nodes.judged_by("a", Demand(gpus=1)) == "slices"
    assert known.cluster.board.nodes["a"].model == "NVIDIA-H100"


def test_no_pod_has_to_go_for_gpus_that_claims_alone_can_have() -> None:
    known = dra("a")
    assert is_hopeless(known.cluster.board.nodes["a"], Demand(gpus=1))


def test_a_claim_s_devices_are_held_until_it_is_gone() -> None:
    known = dra("a")
    known.claims(claim("c", got=[("a", "gpu-1"), ("a", "gpu-3")]))
    assert known.free("a") == [1000, 0, 1000, 0]
    known.claims(claim("c"), change="DELETED")
    assert known.free("a") == [1000] * 4


def test_who_only_looks_at_a_device_does_not_hold_it() -> None:
    known = dra("a")
    result = {"driver": "gpu.nvidia.com", "pool": "a", "device": "gpu-1", "adminAccess": True}
    known.claims(claim("c", got=[result]))
    assert known.free("a") == [1000] * 4


def test_devices_of_other_drivers_and_of_no_node_do_not_count() -> None:
    known = Dra(bare("a"))
    everywhere = four()
    del everywhere["spec"]["nodeName"]
    known.slices(slice_of("a", [device(0)], driver="gpu.example.com"), everywhere)
    assert known.free("a") == []
    assert known.cluster.nodes.judged_by("a", Demand(gpus=1)) == "counts"


@pytest.mark.parametrize(("effect", "free"), [("NoSchedule", 0), ("NoExecute", 0), ("None", 1000)])
def test_a_taint_keeps_claims_off_a_gpu(effect: str, free: int) -> None:
    known = Dra(bare("a"))
    known.slices(slice_of("a", [tainted(0, effect), device(1)]))
    known.claims(claim("c"))
    assert known.free("a") == [free, 1000]
    assert known.would_get("a", claiming("p", "c")) == ["gpu-0" if free else "gpu-1"]


def test_the_first_devices_that_a_selector_takes_are_those_that_a_claim_would_get() -> None:
    known = Dra(bare("a"))
    known.slices(slice_of("a", [device(0, memory="40Gi"), device(1), device(2), device(3)]))
    large = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('80Gi')) >= 0"
    known.claims(claim("c", large, count=2), claim("held", got=[("a", "gpu-1")]))
    assert known.would_get("a", claiming("p", "c")) == ["gpu-2", "gpu-3"]
    known.claims(claim("more", large, count=3))
    assert known.would_get("a", claiming("q", "more")) is None
    assert known.misfit("a", claiming("q", "more")) == ""  # kube-scheduler knows better


def test_devices_that_must_be_alike_are_of_one_group() -> None:
    known = Dra(bare("a"))
    groups = ("GPU-a", "GPU-b", "GPU-b", "GPU-a")
    known.slices(slice_of("a", [device(n, group=group) for n, group in enumerate(groups)]))
    same = [{"matchAttribute": "gpu.nvidia.com/linkGroup"}]
    known.claims(claim("c", count=2, constraints=same), claim("d", count=3, constraints=same))
    assert known.would_get("a", claiming("p", "c")) == ["gpu-0", "gpu-3"]
    assert known.would_get("a", claiming("p", "d")) is None
    known.claims(claim("held", got=[("a", "gpu-0")]))
    assert known.would_get("a", claiming("p", "c")) == ["gpu-1", "gpu-2"]


def test_the_first_alternative_that_can_be_had_is_taken() -> None:
    known = dra("a")
    wanted = claim("c")
    wanted["spec"]["devices"]["requests"] = [
        {
            "name": "gpu",
            "firstAvailable": [
                {"name": "mig", "deviceClassName": MIG},
                {"name": "whole", "deviceClassName": "gpu.nvidia.com", "count": 2},
            ],
        }
    ]
    known.claims(wanted)
    assert known.would_get("a", claiming("p", "c")) == ["gpu-0", "gpu-1"]


def test_a_claim_of_no_gpus_is_none_of_ours() -> None:
    known = dra("a")
    known.classes(device_class("dra.net", 'device.driver == "dra.net"'))
    known.claims(claim("c", of="dra.net"), claim("d", of="unknown"))
    wanted = msgspec.convert(claiming("p", "c", "d", "missing"), Pod)
    assert known.cluster.demand_of(wanted).claims == ()


def test_a_pod_that_is_placed_holds_what_its_claim_will_get_until_the_claim_says() -> None:
    known = dra("a")
    known.claims(claim("c", count=2))
    known.pods(claiming("p", "c", node="a"))
    assert known.free("a") == [0, 0, 1000, 1000]
    known.claims(claim("c", count=2, got=[("a", "gpu-2"), ("a", "gpu-3")]))
    assert known.free("a") == [1000, 1000, 0, 0]
    known.claims(claim("c"), change="DELETED")
    known.cluster.remove_pod("uid-p")
    assert known.free("a") == [1000] * 4


def test_a_claim_that_two_pods_share_is_held_once() -> None:
    known = dra("a")
    known.claims(claim("c", got=[("a", "gpu-0")]))
    known.pods(claiming("p", "c", node="a"), claiming("q", "c", node="a"))
    assert known.free("a") == [0, 1000, 1000, 1000]
    asked = known.cluster.demand_of(msgspec.convert(claiming("r", "c"), Pod))
    assert asked.claims == ()


def test_pods_that_were_there_before_slices_and_classes_are_read_anew() -> None:
    known = Dra(bare("a"))
    known.classes(*CLASSES, change="DELETED")
    known.claims(claim("c", count=2))
    known.pods(claiming("p", "c", node="a"))
    known.slices(four())
    assert known.free("a") == [1000] * 4
    known.classes(*CLASSES)
    assert known.free("a") == [0, 0, 1000, 1000]


def test_a_pool_that_is_being_written_has_nothing() -> None:
    known = dra("a")
    known.slices(slice_of("a", [device(0)], generation=2, resourceSliceCount=2))
    assert known.free("a") == []
    other = slice_of("a", [device(1)], generation=2, resourceSliceCount=2)
    known.slices(other | {"metadata": {"name": "00001"}})
    assert known.free("a") == [1000, 1000]
    known.slices(other | {"metadata": {"name": "00001"}}, change="DELETED")
    assert known.free("a") == []


def test_a_new_list_ends_slices_and_claims_that_are_not_in_it() -> None:
    known = dra("a", "b")
    known.claims(claim("c", got=[("a", "gpu-0")]))
    known.slices(four("a"), change="SET")
    known.claims(change="SET")
    assert (known.free("a"), known.free("b")) == ([1000] * 4, [])


def facts(*gpus: GpuFacts) -> Document:
    one = node("a", sum(bool(gpu.offers) for gpu in gpus))
    one["metadata"]["annotations"] = {ANNOTATION: written(NodeFacts(gpus=gpus))}
    return one


def offered(number: int, **more: Any) -> GpuFacts:
    return GpuFacts(id=f"GPU-a-{number}", offers={GPU: 1}, **more)


def test_the_same_gpu_is_given_once_by_a_resource_or_by_a_claim() -> None:
    known = Dra(facts(*(offered(n) for n in range(4))))
    known.slices(four())
    assert known.misfit("a", pod("p", gpus=4)) == ""
    known.claims(claim("c", got=[("a", "gpu-2")]))
    assert known.free("a") == [1000, 1000, 0, 1000]
    assert known.misfit("a", pod("p", gpus=4)) == "3 GPUs free, 4 requested"
    known.pods(pod("p", gpus=3, node="a"))
    known.claims(claim("d"))
    assert known.misfit("a", claiming("q", "d")) == "pods hold the GPUs that its claims ask for"


def test_of_gpus_for_claims_alone_the_daemon_s_facts_take_none_from_resources() -> None:
    known = Dra(facts(offered(0), offered(1), GpuFacts(id="GPU-a-2", healthy=False)))
    known.slices(slice_of("a", [device(2)]))
    assert known.free("a") == [1000, 1000, 1000]
    assert known.misfit("a", pod("p", gpus=3)) == "2 GPUs free, 3 requested"
    known.pods(pod("p", gpus=2, node="a"))
    known.claims(claim("c"))
    assert known.would_get("a", claiming("q", "c")) == ["gpu-2"]


def test_a_driver_with_other_ids_is_matched_by_the_order_on_the_bus() -> None:
    known = Dra(facts(offered(0), offered(1)))
    devices = [device(n) for n in (1, 0)]
    for number, one in zip((1, 0), devices, strict=True):
        one["attributes"]["uuid"] = {"string": f"0000:{number:02}:00.0"}
    known.slices(slice_of("a", devices))
    known.claims(claim("c", got=[("a", "gpu-1")]))
    assert known.free("a") == [1000, 0]


def test_without_facts_resources_and_claims_have_gpus_of_their_own() -> None:
    known = Dra(node("a", 2))
    known.slices(four())
    known.pods(pod("p", gpus=2, node="a"))
    known.claims(claim("c", count=4))
    assert known.free("a") == [0, 0, 1000, 1000, 1000, 1000]
    assert known.would_get("a", claiming("q", "c")) == [f"gpu-{n}" for n in range(4)]


def test_a_resource_may_be_served_by_claims() -> None:
    known = dra("a")
    known.classes(device_class("gpu.nvidia.com", OF_TYPE.format("gpu"), GPU))
    assert known.misfit("a", pod("p", gpus=4)) == ""
    known.pods(pod("p", gpus=1, node="a"))
    assert known.misfit("a", pod("q", gpus=4)) == "3 GPUs free, 4 requested"
    made = pod("p", gpus=1, node="a")
    made["status"]["extendedResourceClaimStatus"] = {"resourceClaimName": "made"}
    known.claims(claim("made", got=[("a", "gpu-3")]))
    known.pods(made)
    assert known.free("a") == [1000, 1000, 1000, 0]


def test_where_the_device_plugin_gives_a_resource_no_claim_serves_it() -> None:
    known = Dra(node("a", 1))
    known.slices(four())
    known.classes(device_class("gpu.nvidia.com", OF_TYPE.format("gpu"), GPU))
    assert known.misfit("a", pod("p", gpus=2)) == "1 GPUs free, 2 requested"


def test_what_is_cut_takes_of_the_counters_of_its_gpu() -> None:
    known = Dra(bare("a"))
    known.slices(*golden("mig-1.36", "a"))
    profile = 'device.attributes["gpu.nvidia.com"].profile == "{}"'
    known.claims(*(claim(name, profile.format(name), of=MIG) for name in ("1g.6gb", "2g.12gb")))
    assert known.would_get("a", claiming("p", "1g.6gb")) == ["gpu-0-mig-1g6gb-14-3"]
    known.claims(claim("held", got=[("a", "gpu-0-mig-1g6gb-14-1")]))
    assert known.free("a") == [750]
    assert known.would_get("a", claiming("p", "2g.12gb")) is None  # a partition keeps it off 2, 3
    demand = known.cluster.demand_of(msgspec.convert(claiming("p", "2g.12gb"), Pod))
    assert demand.size == (1, 500)


@pytest.mark.parametrize(
    ("name", "gpus"),
    [("simulated-h100-x4", 4), ("simulated-mi300x-x2", 2), ("simulated-b60-x1", 1)],
)
def test_what_our_drivers_publish_is_understood(name: str, gpus: int) -> None:
    known = Dra(bare("a"))
    known.slices(*golden(name, "a"))
    found = known.cluster.board.nodes["a"].about
    assert found is not None
    assert len(known.free("a")) == gpus
    assert all(known.free("a"))
    assert [gpu.memory_mib is not None for gpu in found.gpus] == [True] * gpus


def test_several_claims_have_their_parts_of_a_gpu() -> None:
    known = Dra(bare("a"))
    known.slices(*golden("shares-nvidia-1.36", "a"))
    (one, *_) = known.cluster.board.nodes["a"].claimed.devices.devices  # type: ignore[union-attr]  # it has devices
    kind = one.device.kind
    assert kind.several
    half = {key: str(int(amount(text) / 2)) for key, text in kind.capacity.items()}
    result = {"driver": "gpu.nvidia.com", "pool": "a", "device": one.device.name}
    known.claims(claim("c", got=[result | {"consumedCapacity": half}]))
    assert known.free("a")[0] == 500
    known.claims(claim("d", got=[result | {"consumedCapacity": half}]))
    assert known.free("a")[0] == 0


def test_what_a_pod_wants_of_gpus_slices_say_too() -> None:
    known = dra("a")
    known.classes(device_class("gpu.nvidia.com", OF_TYPE.format("gpu"), GPU))
    wanted = pod("p", gpus=1)
    wanted["metadata"]["annotations"] = {"deviceplugin/gpu-memory": "90GiB"}
    assert known.misfit("a", wanted) == "0 GPUs with 92160 MiB free, 1 requested"
    wanted["metadata"]["annotations"] = {"deviceplugin/links": "required"}
    assert known.misfit("a", wanted | {}) == ""  # nothing is told of links


def test_slices_that_say_the_same_are_kept_once() -> None:
    known = dra("a", "b")
    one, other = (known.cluster.board.nodes[name].claimed for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one.devices is other.devices


def test_a_selector_that_cannot_be_judged_takes_devices_of_the_driver_that_it_names() -> None:
    known = dra("a")
    known.classes(device_class("odd", 'device.attributes["gpu.nvidia.com"].uuid.contains("a-2")'))
    known.claims(claim("c", of="odd"))
    wanted = msgspec.convert(claiming("p", "c"), Pod)
    demand = known.cluster.demand_of(wanted)
    assert known.cluster.nodes.judged_by("a", demand) == "counts"
    assert known.would_get("a", claiming("p", "c")) == ["gpu-0"]
