"""The kubelet's side as counters and histograms."""

from collections.abc import Iterator

from deviceplugin.errors import Refusal
from deviceplugin.metrics.registry import Counter, Histogram
from deviceplugin.model import ResourceName
from deviceplugin.resources.allocation import Allocation
from deviceplugin.runtime.part import Series

_RPC_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class KubeletMetrics:
    """What goes on between the kubelet and this daemon; each method counts one event."""

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

    def collect(self) -> Iterator[Series]:
        """All of them as they are now."""
        for counter in (self._allocations, self._refusals, self._registrations):
            yield from counter.collect()
        for instrument in (self._rpc, self._lists, self._restarts):
            yield from instrument.collect()

    def rpc(self, method: str, seconds: float) -> None:
        """A call was answered after `seconds`."""
        self._rpc.observe(method, seconds)

    def allocated(self, allocation: Allocation) -> None:
        """A container request was answered."""
        self._allocations.inc(allocation.resource.name)

    def refused(self, resource: ResourceName, refusal: Refusal) -> None:
        """A container request was refused."""
        self._refusals.inc(resource, refusal)

    def registered(self, resource: ResourceName, *, accepted: bool) -> None:
        """The kubelet answered a registration."""
        self._registrations.inc(resource, "accepted" if accepted else "refused")

    def listed(self, resource: ResourceName) -> None:
        """A list was sent on a stream."""
        self._lists.inc(resource)

    def kubelet_restarted(self) -> None:
        """A kubelet was seen that is not the first one."""
        self._restarts.inc()
