"""The daemon's own metrics; a scrape reads what is known already and calls no driver."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator

from deviceplugin.core.resources import Resources
from deviceplugin.errors import Refusal
from deviceplugin.model import Health, Inventory, ResourceName
from deviceplugin.outputs.exposition import Family, Registry
from deviceplugin.outputs.instruments import Counter, Histogram
from deviceplugin.outputs.process_metrics import ProcessCollector

_RPC_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_DISCOVERY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters that the other parts increase; fulfils the kubelet side's Recorder."""

    def __init__(self) -> None:
        self._allocations = Counter(
            "deviceplugin_allocations_total", "Container requests answered", ["resource"]
        )
        self._refusals = Counter(
            "deviceplugin_allocation_refusals_total",
            "Container requests refused, by reason",
            ["resource", "reason"],
        )
        self._rpc = Histogram(
            "deviceplugin_rpc_duration_seconds",
            "Time to answer a call of the kubelet",
            "method",
            _RPC_BUCKETS_S,
        )
        self._registrations = Counter(
            "deviceplugin_registrations_total",
            "Registrations answered by the kubelet",
            ["resource", "result"],
        )
        self._lists = Counter("deviceplugin_lists_sent_total", "Device lists sent", ["resource"])
        self._restarts = Counter(
            "deviceplugin_kubelet_restarts_total", "Kubelets seen after the first one"
        )
        self._discovery = Histogram(
            "deviceplugin_discovery_duration_seconds",
            "Time of one discovery",
            "vendor",
            _DISCOVERY_BUCKETS_S,
        )
        self._failures = Counter(
            "deviceplugin_task_failures_total",
            "Failures of a task that was then tried again",
            ["task"],
        )
        self.registry = Registry()
        self.registry.register(ProcessCollector())
        for instrument in (self._allocations, self._refusals, self._rpc, self._registrations):
            self.registry.register(instrument)
        for instrument in (self._lists, self._restarts, self._discovery, self._failures):
            self.registry.register(instrument)

    def rpc(self, method: str, seconds: float) -> None:
        self._rpc.observe(method, seconds)

    def allocated(self, resource: ResourceName) -> None:
        self._allocations.inc(resource)

    def refused(self, resource: ResourceName, refusal: Refusal) -> None:
        self._refusals.inc(resource, refusal)

    def registered(self, resource: ResourceName, *, accepted: bool) -> None:
        self._registrations.inc(resource, "accepted" if accepted else "refused")

    def listed(self, resource: ResourceName) -> None:
        self._lists.inc(resource)

    def kubelet_restarted(self) -> None:
        self._restarts.inc()

    def discovered(self, vendor: str, seconds: float) -> None:
        """A discovery took `seconds`."""
        self._discovery.observe(vendor, seconds)

    def task_failed(self, task: str) -> None:
        """A supervised task failed and is tried again."""
        self._failures.inc(task)


class StateCollector:
    """Gauges made from the newest state at each scrape; the values are immutable snapshots."""

    def __init__(
        self, inventory: Callable[[], Inventory], resources: Callable[[], Resources]
    ) -> None:
        self._inventory, self._resources = inventory, resources

    def collect(self) -> Iterator[Family]:
        """All gauges; no driver is asked and nothing is waited for."""
        yield self._devices()
        yield from self._vendors()

    def _devices(self) -> Family:
        family = Family(
            "deviceplugin_devices",
            "gauge",
            "Ids listed to the kubelet",
            labels=["resource", "health"],
        )
        for name, resource in self._resources().items():
            tally = Tally(entry.health for entry in resource.devices)
            for health in Health:
                family.add([name, health], tally[health])
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
