"""Gauges about resources: devices, faults, isolation, and which container holds how much."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from deviceplugin.metrics.registry import Family
from deviceplugin.model import DeviceID, Health, Inventory, ResourceName
from deviceplugin.resources.plan import Plan, Resources

# Namespace, pod and container, then the resource and the device of an id that it holds.
Held = tuple[tuple[str, str, str], ResourceName, DeviceID]


class SharingCollector:
    """Reads the newest plan and the ledger at each scrape; asks nobody."""

    def __init__(self, plan: Callable[[], Plan], held: Callable[[], Iterable[Held]]) -> None:
        self._plan, self._holdings = plan, held

    def collect(self) -> Iterator[Family]:
        """All gauges."""
        plan = self._plan()
        isolation = Family(
            "deviceplugin_resource_isolation",
            "gauge",
            "1 for what keeps containers of a resource apart: none, memory, process or hardware",
            labels=["resource", "isolation"],
        )
        for name, resource in sorted(plan.resources.items()):
            isolation.add([name, resource.isolation], 1)
        yield isolation
        yield from _compute(plan)
        decided = Family(
            "deviceplugin_device_in_use_as",
            "gauge",
            "1 for a device of several forms while pods hold it in one of them",
            labels=["device", "resource"],
        )
        for device, name in sorted(plan.decided.items()):
            decided.add([device, name], 1)
        yield decided
        yield self._held(set(plan.resources))

    def _held(self, names: set[str]) -> Family:
        family = Family(
            "deviceplugin_container_devices",
            "gauge",
            "Ids that a container holds, by the device behind them",
            labels=["namespace", "pod", "container", "resource", "device"],
        )
        held = Counter(
            (holder, name, device) for holder, name, device in self._holdings() if name in names
        )
        for (holder, name, device), count in sorted(held.items()):
            family.add([*holder, name, device], count)
        return family


def _compute(plan: Plan) -> Iterator[Family]:
    """Only where slices come with compute."""
    family = Family(
        "deviceplugin_resource_compute_percent",
        "gauge",
        "Part of a device's compute that comes with each slice, by what holds containers to it",
        labels=["resource", "level"],
    )
    for name, share in sorted(plan.compute.items()):
        family.add([name, share.level], share.percent)
    if plan.compute:
        yield family


class StateCollector:
    """Gauges made from the newest state at each scrape; the values are immutable snapshots."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        resources: Callable[[], Resources],
        kept: Callable[[], Mapping[ResourceName, int]] = dict,
    ) -> None:
        self._inventory, self._resources, self._kept = inventory, resources, kept

    def collect(self) -> Iterator[Family]:
        """All gauges; no driver is asked and nothing is waited for."""
        yield self._devices()
        yield self._kept_devices()
        yield from self._vendors()

    def _devices(self) -> Family:
        family = Family(
            "deviceplugin_devices",
            "gauge",
            "Ids listed to the kubelet",
            labels=["resource", "health"],
        )
        for name, resource in self._resources().items():
            tally = Counter(entry.health for entry in resource.devices)
            for health in Health:
                family.add([name, health], tally[health])
        return family

    def _kept_devices(self) -> Family:
        family = Family(
            "deviceplugin_devices_kept",
            "gauge",
            "Ids that are gone, and listed Unhealthy while a pod may hold them",
            labels=["resource"],
        )
        kept = self._kept()
        for name in self._resources():
            family.add([name], kept.get(name, 0))
        return family

    def _vendors(self) -> Iterator[Family]:
        inventory = self._inventory()
        up = Family(
            "deviceplugin_vendor_up",
            "gauge",
            "1 while a vendor's hardware can be read",
            labels=["vendor"],
        )
        for status in inventory.vendors.values():
            up.add([status.name], 0 if status.error else 1)
        yield up
        faults = Family(
            "deviceplugin_device_fault",
            "gauge",
            "1 for each standing fault of a device",
            labels=["device", "source", "code", "class"],
        )
        for found in inventory.faults.values():
            for fault in found:
                faults.add([fault.device, fault.source, fault.code, fault.kind], 1)
        yield faults
