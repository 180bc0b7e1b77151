"""The daemon's own metrics; a scrape reads what is known already and calls no driver."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deviceplugin.core.resources import Resources
from deviceplugin.errors import Refusal
from deviceplugin.model import Health, Inventory, ResourceName

_RPC_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_DISCOVERY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters that the other parts increase; fulfils the kubelet side's Recorder."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # series that nobody reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._allocations = Counter(
            "deviceplugin_allocations",
            "Container requests answered",
            ["resource"],
            registry=registry,
        )
        self._refusals = Counter(
            "deviceplugin_allocation_refusals",
            "Container requests refused, by reason",
            ["resource", "reason"],
            registry=registry,
        )
        self._rpc = Histogram(
            "deviceplugin_rpc_duration_seconds",
            "Time to answer a call of the kubelet",
            ["method"],
            buckets=_RPC_BUCKETS_S,
            registry=registry,
        )
        self._registrations = Counter(
            "deviceplugin_registrations",
            "Registrations answered by the kubelet",
            ["resource", "result"],
            registry=registry,
        )
        self._lists = Counter(
            "deviceplugin_lists_sent", "Device lists sent", ["resource"], registry=registry
        )
        self._restarts = Counter(
            "deviceplugin_kubelet_restarts",
            "Kubelets seen after the first one",
            registry=registry,
        )
        self._discovery = Histogram(
            "deviceplugin_discovery_duration_seconds",
            "Time of one discovery",
            ["vendor"],
            buckets=_DISCOVERY_BUCKETS_S,
            registry=registry,
        )
        self._failures = Counter(
            "deviceplugin_task_failures",
            "Failures of a task that was then tried again",
            ["task"],
            registry=registry,
        )

    def rpc(self, method: str, seconds: float) -> None:
        self._rpc.labels(method).observe(seconds)

    def allocated(self, resource: ResourceName) -> None:
        self._allocations.labels(resource).inc()

    def refused(self, resource: ResourceName, refusal: Refusal) -> None:
        self._refusals.labels(resource, refusal).inc()

    def registered(self, resource: ResourceName, *, accepted: bool) -> None:
        self._registrations.labels(resource, "accepted" if accepted else "refused").inc()

    def listed(self, resource: ResourceName, size_bytes: int) -> None:
        self._lists.labels(resource).inc()

    def kubelet_restarted(self) -> None:
        self._restarts.inc()

    def discovered(self, vendor: str, seconds: float) -> None:
        """A discovery took `seconds`."""
        self._discovery.labels(vendor).observe(seconds)

    def task_failed(self, task: str) -> None:
        """A supervised task failed and is tried again."""
        self._failures.labels(task).inc()


class StateCollector(Collector):
    """Gauges made from the newest state at each scrape; the values are immutable snapshots."""

    def __init__(
        self, inventory: Callable[[], Inventory], resources: Callable[[], Resources]
    ) -> None:
        self._inventory, self._resources = inventory, resources

    def collect(self) -> Iterator[Metric]:
        """All gauges; no driver is asked and nothing is waited for."""
        yield self._devices()
        yield from self._vendors()

    def _devices(self) -> Metric:
        family = GaugeMetricFamily(
            "deviceplugin_devices", "Ids listed to the kubelet", labels=["resource", "health"]
        )
        for name, resource in self._resources().items():
            tally = Tally(entry.health for entry in resource.devices)
            for health in Health:
                family.add_metric([name, health], tally[health])
        return family

    def _vendors(self) -> Iterator[Metric]:
        inventory = self._inventory()
        up = GaugeMetricFamily(
            "deviceplugin_vendor_up", "1 while a vendor's hardware can be read", labels=["vendor"]
        )
        for status in inventory.vendors.values():
            up.add_metric([status.name], 0 if status.error else 1)
        yield up
        faults = GaugeMetricFamily(
            "deviceplugin_device_fault",
            "1 for each standing fault of a device",
            labels=["device", "source", "code", "class"],
        )
        for found in inventory.faults.values():
            for fault in found:
                faults.add_metric([fault.device, fault.source, fault.code, fault.kind], 1)
        yield faults
