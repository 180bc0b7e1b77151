"""Metrics of health: where each device stands and what was told of it; read, never asked for."""

from collections.abc import Callable, Iterator, Mapping

from deviceplugin.health.records import Memory
from deviceplugin.inventory.conditions import Condition, condition_of
from deviceplugin.metrics.registry import Family
from deviceplugin.model import Inventory

Told = Mapping[tuple[str, str, str], int]


class HealthCollector:
    """Series made from the newest inventory and memory at each scrape."""

    def __init__(
        self, inventory: Callable[[], Inventory], memory: Callable[[], Memory], told: Told
    ) -> None:
        self._inventory, self._memory, self._told = inventory, memory, told

    def collect(self) -> Iterator[Family]:
        """All series; no driver is asked."""
        yield self._conditions()
        events = Family(
            "deviceplugin_health_events_total",
            "counter",
            "Events of health that were told of a device",
            labels=["device", "source", "code"],
        )
        for key, count in sorted(dict(self._told).items()):
            events.add(list(key), count)
        yield events
        remembered = Family(
            "deviceplugin_remembered_faults", "gauge", "Faults that are kept in memory"
        )
        remembered.add([], len(self._memory().faults))
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
