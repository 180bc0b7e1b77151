"""Gauges about sharing: what isolates, which form a GPU is in, which container holds how much."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from deviceplugin.core.resources import Plan
from deviceplugin.core.shares import form_of
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.outputs.exposition import Family

# Namespace, pod and container, then what it holds.
Held = tuple[tuple[str, str, str], ResourceName, AdvertisedID]


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
            (holder, name, form_of(advertised)[0])
            for holder, name, advertised in self._holdings()
            if name in names
        )
        for (holder, name, device), count in sorted(held.items()):
            family.add([*holder, name, device], count)
        return family
