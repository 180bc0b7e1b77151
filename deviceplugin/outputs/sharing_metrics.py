"""Gauges about sharing: what isolates, which form a GPU is in, which container holds how much."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deviceplugin.core.resources import Plan
from deviceplugin.core.shares import form_of
from deviceplugin.kubelet.ledger import Ledger


class SharingCollector(Collector):
    """Reads the newest plan and the ledger at each scrape; asks nobody."""

    def __init__(self, plan: Callable[[], Plan], ledger: Ledger) -> None:
        self._plan, self._ledger = plan, ledger

    def collect(self) -> Iterator[Metric]:
        """All gauges."""
        plan = self._plan()
        isolation = GaugeMetricFamily(
            "deviceplugin_resource_isolation",
            "1 for what keeps containers of a resource apart: none, memory, process or hardware",
            labels=["resource", "isolation"],
        )
        for name, resource in sorted(plan.resources.items()):
            isolation.add_metric([name, resource.isolation], 1)
        yield isolation
        decided = GaugeMetricFamily(
            "deviceplugin_device_in_use_as",
            "1 for a device of several forms while pods hold it in one of them",
            labels=["device", "resource"],
        )
        for device, name in sorted(plan.decided.items()):
            decided.add_metric([device, name], 1)
        yield decided
        yield self._held(set(plan.resources))

    def _held(self, names: set[str]) -> Metric:
        family = GaugeMetricFamily(
            "deviceplugin_container_devices",
            "Ids that a container holds, by the device behind them",
            labels=["namespace", "pod", "container", "resource", "device"],
        )
        held = Counter(
            (claim.holder, name, form_of(advertised)[0])
            for (name, advertised), claim in list(self._ledger.claims.items())
            if claim.holder is not None and name in names
        )
        for (holder, name, device), count in sorted(held.items()):
            labels = [holder.namespace, holder.pod, holder.container, name, device]
            family.add_metric(labels, count)
        return family
