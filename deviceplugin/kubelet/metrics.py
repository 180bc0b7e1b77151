"""The kubelet's side as counters and histograms."""

from deviceplugin.errors import Refusal
from deviceplugin.metrics.process import ProcessCollector
from deviceplugin.metrics.registry import Counter, Histogram, Registry
from deviceplugin.model import ResourceName

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
