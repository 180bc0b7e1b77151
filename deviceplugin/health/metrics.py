"""Metrics of health: the condition of each device and its events; no driver is asked for them."""

from collections.abc import Callable, Iterator, Mapping

from deviceplugin.health.records import FaultRecords
from deviceplugin.inventory.conditions import Condition, condition_of
from deviceplugin.metrics.registry import Family
from deviceplugin.model import Inventory

EventCounts = Mapping[tuple[str, str, str], int]


class HealthCollector:
    """Series made from the newest inventory and memory at each scrape."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        records: Callable[[], FaultRecords],
        event_counts: EventCounts,
    ) -> None:
        self._inventory, self._records, self._event_counts = inventory, records, event_counts

    def collect(self) -> Iterator[Family]:
        """All series; no driver is asked."""
        yield self._conditions()
        events = Family(
            "deviceplugin_health_events_total",
            "counter",
            "Health events of a device",
            labels=["device", "source", "code"],
        )
        for key, count in sorted(dict(self._event_counts).items()):
            events.add(list(key), count)
        yield events
        remembered = Family(
            "deviceplugin_remembered_faults", "gauge", "Faults of events that are recorded"
        )
        remembered.add([], len(self._records().faults))
        yield remembered

    def _conditions(self) -> Family:
        family = Family(
            "deviceplugin_device_condition",
            "gauge",
            "1 for the condition that a device is in",
            labels=["device", "condition"],
        )
        inventory = self._inventory()
        for device in inventory.devices.values():
            standing = condition_of(inventory, device)
            for condition in Condition:
                family.add([device.id, condition], float(condition is standing))
        return family


class DeviceInfoCollector:
    """One series for each device with what its id stands for, to join other series with:
    `* on (instance, device) group_left (product, pci_address) deviceplugin_device_info`."""

    def __init__(self, inventory: Callable[[], Inventory], node: Callable[[], str]) -> None:
        self._inventory, self._node = inventory, node

    def collect(self) -> Iterator[Family]:
        """All series; no driver is asked."""
        names = ("vendor", "product", "pci_address", "index", "parent", "profile", "resource")
        node = self._node()
        family = Family(
            "deviceplugin_device_info",
            "gauge",
            "1 for each device; its labels say what the id of other series stands for",
            labels=["node", "device", *names],
        )
        for device in self._inventory().devices.values():
            values = (getattr(device, name) for name in names)
            texts = ("" if value is None else str(value) for value in values)
            family.add([node, device.id, *texts], 1)
        yield family
