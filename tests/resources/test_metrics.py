"""Gauges about resources, by their series and values."""

from collections.abc import Iterable

from deviceplugin.metrics.registry import Family
from deviceplugin.model import (
    DeviceID,
    Fault,
    FaultClass,
    ResourceName,
    VendorStatus,
)
from deviceplugin.resources.metrics import Held, SharingCollector, StateCollector
from deviceplugin.resources.plan import Plan
from tests.resources.builders import gpu, instance, inventory, sharing

GPU, SHARED = ResourceName("nvidia.com/gpu"), ResourceName("nvidia.com/gpu.shared")
HOLDER, TRAIN = ("default", "train", "main"), 'namespace="default",pod="train"'


def series(families: Iterable[Family]) -> list[str]:
    """The lines of all families, without their help."""
    lines = (line.removesuffix(".0") for family in families for line in family.lines())
    return [line for line in lines if not line.startswith("# HELP")]


def plan_of(*devices: str) -> Plan:
    plan = sharing({"offers": ["whole", {"replicas": 2}]}).plan(inventory(gpu(0)))
    return Plan(resources=plan.resources, decided={DeviceID(device): SHARED for device in devices})


def test_a_resource_tells_what_keeps_its_containers_apart() -> None:
    parts = sharing().plan(inventory(instance(gpu(0), 0), gpu(1)))
    assert series(SharingCollector(lambda: parts, list).collect())[:3] == [
        "# TYPE deviceplugin_resource_isolation gauge",
        'deviceplugin_resource_isolation{isolation="hardware",resource="nvidia.com/gpu"} 1',
        'deviceplugin_resource_isolation{isolation="hardware",resource="nvidia.com/mig-1g.10gb"} 1',
    ]


def test_a_device_that_is_held_in_one_of_its_forms_tells_which() -> None:
    lines = series(SharingCollector(lambda: plan_of("b", "a"), list).collect())
    assert lines[3:6] == [
        "# TYPE deviceplugin_device_in_use_as gauge",
        f'deviceplugin_device_in_use_as{{device="a",resource="{SHARED}"}} 1',
        f'deviceplugin_device_in_use_as{{device="b",resource="{SHARED}"}} 1',
    ]


def test_what_containers_hold_is_counted_by_device() -> None:
    held: list[Held] = [
        (("b", "pod", "main"), GPU, DeviceID("y")),
        (HOLDER, SHARED, DeviceID("x")),
        (HOLDER, SHARED, DeviceID("x")),
        (HOLDER, ResourceName("example.com/not-ours"), DeviceID("x")),
    ]
    lines = series(SharingCollector(plan_of, lambda: held).collect())
    name = "deviceplugin_container_devices"
    assert lines[4:] == [
        f"# TYPE {name} gauge",
        f'{name}{{container="main",device="y",namespace="b",pod="pod",resource="{GPU}"}} 1',
        f'{name}{{container="main",device="x",{TRAIN},resource="{SHARED}"}} 2',
    ]


def test_ids_are_counted_by_health_and_kept_ones_beside_them() -> None:
    node = inventory(gpu(0), gpu(1), gpu(2))
    lost = Fault(device=gpu(2).id, source="s", code="c", reason="r", kind=FaultClass.HARDWARE)
    node = node.__class__(devices=node.devices, faults={gpu(2).id: (lost,)})
    resources = sharing().plan(node).resources
    kept = {GPU: 3, SHARED: 5}
    collector = StateCollector(lambda: node, lambda: resources, lambda: kept)
    assert series(collector.collect())[:5] == [
        "# TYPE deviceplugin_devices gauge",
        f'deviceplugin_devices{{health="Healthy",resource="{GPU}"}} 2',
        f'deviceplugin_devices{{health="Unhealthy",resource="{GPU}"}} 1',
        "# TYPE deviceplugin_devices_kept gauge",
        f'deviceplugin_devices_kept{{resource="{GPU}"}} 3',
    ]


def test_a_resource_without_kept_ids_has_none() -> None:
    collector = StateCollector(inventory, lambda: sharing().plan(inventory(gpu(0))).resources)
    assert f'deviceplugin_devices_kept{{resource="{GPU}"}} 0' in series(collector.collect())


def test_vendors_and_standing_faults_have_a_series_each() -> None:
    fault = Fault(device=gpu(0).id, source="s", code="c", reason="r", kind=FaultClass.WARN)
    node = inventory(gpu(0))
    node = node.__class__(
        devices=node.devices,
        faults={gpu(0).id: (fault,)},
        vendors={
            "nvidia": VendorStatus(name="nvidia"),
            "amd": VendorStatus(name="amd", error="no driver"),
        },
    )
    lines = series(StateCollector(lambda: node, dict).collect())
    assert lines[2:] == [
        "# TYPE deviceplugin_vendor_up gauge",
        'deviceplugin_vendor_up{vendor="nvidia"} 1',
        'deviceplugin_vendor_up{vendor="amd"} 0',
        "# TYPE deviceplugin_device_fault gauge",
        f'deviceplugin_device_fault{{class="warn",code="c",device="{gpu(0).id}",source="s"}} 1',
    ]
