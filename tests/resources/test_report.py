"""The document of `discover`: every key, with its value."""

from types import MappingProxyType

from msgspec.structs import replace

from deviceplugin.model import (
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Link,
    LinkKind,
    ResourceName,
    VendorStatus,
    frozen,
)
from deviceplugin.resources.ids import Ids
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.report import report
from deviceplugin.resources.usage import usage_of
from tests.resources.builders import GIB, gpu, instance, inventory, sharing

LINK = Link(peer=gpu(1).id, kind=LinkKind.NVLINK, width=4, weight=2, cost=7)
PART = instance(
    gpu(0), 1, links=(LINK,), nodes=("/dev/nvidia0",), attributes=frozen({"gpu_instance": "7"})
)
LOST = Fault(device=gpu(0).id, source="s", code="lost", reason="gone", kind=FaultClass.HARDWARE)
FORMS = sharing({"offers": ["whole", {"replicas": 2}]})
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"


def faulty(*devices: Device) -> Inventory:
    made = inventory(*devices)
    return replace(made, faults=MappingProxyType({LOST.device: (LOST,)}))


def test_a_device_is_shown_with_everything_that_is_known_of_it() -> None:
    (shown,) = report("node-1", inventory(PART), Plan(resources={}))["devices"]
    assert shown == {
        "id": PART.id,
        "vendor": "nvidia",
        "product": "NVIDIA A100-SXM4-80GB",
        "parent": gpu(0).id,
        "profile": "1g.10gb",
        "pci_address": "0000:01:00.0",
        "numa_node": 0,
        "memory_bytes": 10 * GIB,
        "health": "Healthy",
        "faults": [],
        "resource": "nvidia.com/mig-1g.10gb",
        "nodes": ["/dev/nvidia0"],
        "links": [{"peer": gpu(1).id, "kind": "NVLINK", "width": 4, "weight": 2, "cost": 7}],
        "attributes": {"gpu_instance": "7"},
    }


def test_resources_and_how_they_are_shared_are_shown_sorted() -> None:
    node = inventory(gpu(0))
    shown = report("node-1", node, FORMS.plan(node))
    assert (shown["node"], list(shown["resources"])) == ("node-1", [GPU, SHARED])
    assert shown["resources"][SHARED] == [
        {"id": f"{gpu(0).id}::{n}", "health": "Healthy", "device": gpu(0).id} for n in range(2)
    ]
    assert shown["sharing"] == {
        GPU: {"isolation": "hardware", "max_per_container": None, "distinct": False},
        SHARED: {"isolation": "none", "max_per_container": 1, "distinct": False},
    }
    assert (shown["unavailable"], shown["problems"]) == ({}, [])


def test_vendors_are_shown_with_their_versions_and_what_is_wrong() -> None:
    status = VendorStatus(
        name="nvidia",
        driver_version="570.1",
        library_version="12.570",
        error="no NVML",
        notes=("n",),
    )
    node = replace(inventory(), vendors=MappingProxyType({"nvidia": status}))
    assert report("n", node, Plan(resources={}))["vendors"] == [
        {
            "name": "nvidia",
            "driver_version": "570.1",
            "library_version": "12.570",
            "error": "no NVML",
            "notes": ["n"],
        }
    ]


def test_ids_of_an_unhealthy_gpu_tell_so_and_those_of_its_partitions_name_the_gpu() -> None:
    node = faulty(gpu(0), PART)
    shown = report("n", node, sharing().plan(node))
    assert shown["unavailable"] == {
        GPU: [{"ids": 1, "reason": f"{gpu(0).id} is Unhealthy"}],
        "nvidia.com/mig-1g.10gb": [{"ids": 1, "reason": f"{gpu(0).id} is Unhealthy"}],
    }
    assert [d["health"] for d in shown["devices"]] == ["Unhealthy", "Unhealthy"]
    assert [f["code"] for d in shown["devices"] for f in d["faults"]] == ["lost", "lost"]


def test_ids_of_a_device_that_is_held_in_another_form_tell_in_which() -> None:
    node = inventory(gpu(0))
    key = (ResourceName(GPU), FORMS.plan(node).resources[ResourceName(GPU)].devices[0].id)
    usage = usage_of({key: Ids(frozenset({gpu(0).id})).meanings(key)})
    shown = report("n", node, FORMS.plan(node, usage))
    assert shown["unavailable"] == {
        SHARED: [{"ids": 2, "reason": f"{gpu(0).id} is in use as {GPU}"}]
    }


def test_ids_that_only_the_daemon_lists_tell_why_they_are_kept() -> None:
    node = inventory(gpu(0))
    both = FORMS.plan(inventory(gpu(0), gpu(1, id=DeviceID("gone")))).resources
    listed = {
        name: replace(
            resource,
            devices=tuple(replace(e, health=Health.UNHEALTHY) for e in resource.devices),
        )
        for name, resource in both.items()
    }
    shown = report("n", node, sharing().plan(node), listed)["unavailable"][GPU]
    assert shown == [
        {
            "ids": 1,
            "reason": f"{gpu(0).id} is not offered as this any more; its id stays until"
            " no pod can hold it",
        },
        {"ids": 1, "reason": "gone is gone; its id stays until no pod can hold it any more"},
    ]


def test_a_resource_that_cannot_be_offered_is_a_problem_with_what_to_do() -> None:
    node = inventory(gpu(0))
    plan = sharing({"offers": [{"replicas": 2}]}, isolation="memory").plan(node)
    (problem,) = report("n", node, plan)["problems"]
    assert problem["resource"] == GPU
    assert problem["reason"] == "it isolates by none, the configuration asks for isolation: memory"
    assert problem["action"].startswith("offer whole GPUs or hardware partitions")
