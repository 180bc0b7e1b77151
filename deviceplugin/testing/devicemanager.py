"""The kubelet's device manager state: lists, endpoints, who holds what. It makes no call."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.plugin_client import Options, PluginClient

HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"


class Kind(Enum):
    """What a list can have wrong though the kubelet accepts it."""

    DUPLICATE = "duplicate ids"
    EMPTY_TOPOLOGY = "empty TopologyInfo"
    NEGATIVE_NODE = "negative NUMA node"
    HEALTH_WORD = "unknown health words"
    MIXED_TOPOLOGY = "some devices with topology"
    SHARED = "ids of another resource"


class ListFault(Struct, frozen=True):
    """One fault of a list, with the text that names the devices."""

    resource: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.text}"


class SeenDevice(Struct, frozen=True, kw_only=True):
    """A device as last listed. numa_nodes None: topology unset; (): an empty TopologyInfo."""

    id: str
    health: str
    numa_nodes: tuple[int, ...] | None

    @property
    def nodes(self) -> tuple[int, ...]:
        """The NUMA nodes, none for a device without topology."""
        return self.numa_nodes or ()


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a resource is served. No client and no options: known from before a restart only."""

    client: PluginClient | None
    options: Options | None
    stopped_at_s: float | None = None


class Holding(Struct, frozen=True, kw_only=True):
    """Devices of one resource held by one container, each with one NUMA node (None: unknown)."""

    devices: tuple[tuple[str, int | None], ...]
    answer: pluginapi.ContainerAllocateResponse

    @property
    def ids(self) -> frozenset[str]:
        """The ids held; one in two NUMA nodes counts once."""
        return frozenset(device for device, _ in self.devices)


class Holder(Struct, frozen=True, kw_only=True):
    """The container that holds devices; pod is "namespace/name"."""

    pod: str
    container: str
    resource: str


class DeviceManager(Struct, kw_only=True):
    """State per resource, with the kubelet's semantics of lists, stream ends and grace period.

    grace_s and every time are seconds of `clock`.
    """

    grace_s: float
    topology_policy: str
    clock: Callable[[], float]
    healthy: dict[str, set[str]] = field(default_factory=dict)
    unhealthy: dict[str, set[str]] = field(default_factory=dict)
    devices: dict[str, dict[str, SeenDevice]] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    allocated: dict[str, set[str]] = field(default_factory=dict)
    held: dict[Holder, Holding] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    messages: Counter[str] = field(default_factory=Counter)
    node_resources: set[str] = field(default_factory=set)
    crashes: list[str] = field(default_factory=list)
    faults: list[ListFault] = field(default_factory=list)

    def connect(self, resource: str, client: PluginClient, options: Options) -> None:
        """Take a new endpoint; the sets stay as they are until its first list."""
        self.endpoints[resource] = Endpoint(client=client, options=options)

    def disconnect(self, resource: str) -> None:
        """Make all devices of the resource unhealthy and start its grace period."""
        endpoint = self.endpoints.get(resource)
        if endpoint is None:
            return
        self.unhealthy.setdefault(resource, set()).update(self.healthy.get(resource, ()))
        if resource in self.healthy:
            self.healthy[resource] = set()
        self.endpoints[resource] = replace(endpoint, stopped_at_s=self.clock())

    def apply_list(self, resource: str, listed: Sequence[pluginapi.Device]) -> None:
        """Replace the resource's devices by the list; a duplicate may land in both sets."""
        seen = [_seen(device) for device in listed]
        self.faults += list_faults(resource, seen)
        self.faults += self._shared_ids(resource, seen)
        self.devices[resource] = {device.id: device for device in seen}
        self.healthy[resource] = {device.id for device in seen if device.health == HEALTHY}
        self.unhealthy[resource] = {device.id for device in seen if device.health != HEALTHY}
        self.messages[resource] += 1
        self.node_resources.add(resource)
        self._check_removal(resource)

    def capacity(self) -> dict[str, int]:
        """Node capacity per resource ever listed: all devices; 0 after the grace period."""
        self._expire()
        return {
            name: len(self.healthy.get(name, ())) + len(self.unhealthy.get(name, ()))
            for name in sorted(self.node_resources)
        }

    def allocatable(self) -> dict[str, int]:
        """Healthy devices per resource ever listed."""
        self._expire()
        return {name: len(self.healthy.get(name, ())) for name in sorted(self.node_resources)}

    def next_expiry_s(self) -> float | None:
        """Seconds until the next grace period ends, None when none is running."""
        ends = (
            endpoint.stopped_at_s + self.grace_s - self.clock()
            for endpoint in self.endpoints.values()
            if endpoint.stopped_at_s is not None
        )
        return min((left_s for left_s in ends if left_s >= 0), default=None)

    def is_device_resource(self, resource: str) -> bool:
        """Tell whether a request for it is the device manager's business."""
        return resource in self.healthy or resource in self.allocated

    def holding(self, holder: Holder) -> frozenset[str]:
        """The ids the container holds of the resource."""
        holding = self.held.get(holder)
        return holding.ids if holding else frozenset()

    def holders_of(self, pod: str, container: str) -> Iterator[tuple[str, Holding]]:
        """Every resource the container holds, with its devices."""
        for holder, holding in self.held.items():
            if holder.pod == pod and holder.container == container:
                yield holder.resource, holding

    def hold(self, holder: Holder, ids: Iterable[str], answer: pluginapi.AllocateResponse) -> None:
        """Record an allocation, each device under each of its NUMA nodes."""
        known = self.devices[holder.resource]
        rows = [
            (name, node if node is None or node >= 0 else None)
            for name in sorted(ids)
            for node in (known[name].nodes or (None,))
        ]
        self.held[holder] = Holding(devices=tuple(rows), answer=answer.container_responses[0])

    def restore_allocated(self) -> None:
        """Count as allocated exactly what containers hold; this heals leaks."""
        self.allocated = {}
        for holder, holding in self.held.items():
            self.allocated.setdefault(holder.resource, set()).update(holding.ids)

    def drop_inactive(self, active: Iterable[str]) -> None:
        """Free what pods outside `active` hold; without such a pod nothing is rebuilt."""
        keep = set(active)
        self.gone -= keep
        gone = [holder for holder in self.held if holder.pod not in keep]
        for holder in gone:
            del self.held[holder]
        if gone:
            self.restore_allocated()

    def restart(self) -> None:
        """Come back from the checkpoint: resources known, sets empty, endpoints stopped now."""
        stopped = Endpoint(client=None, options=None, stopped_at_s=self.clock())
        known = list(self.healthy)
        self.endpoints = dict.fromkeys(known, stopped)
        self.healthy = {name: set() for name in known}
        self.unhealthy = {name: set() for name in known}
        self.devices = {}
        self.restore_allocated()

    def forget(self) -> None:
        """Lose the checkpoint: nothing registered, nothing held."""
        self.held = {}
        self.healthy, self.unhealthy, self.devices, self.endpoints = {}, {}, {}, {}
        self.allocated = {}

    def _expire(self) -> None:
        for name in self.healthy.keys() | self.unhealthy.keys():
            endpoint = self.endpoints.get(name)
            if endpoint is None or self._expired(endpoint):
                self.endpoints.pop(name, None)
                self.healthy.pop(name, None)
                self.unhealthy.pop(name, None)

    def _expired(self, endpoint: Endpoint) -> bool:
        stopped = endpoint.stopped_at_s
        return stopped is not None and self.clock() - stopped > self.grace_s

    def _check_removal(self, resource: str) -> None:
        if self.topology_policy == "none":
            return
        for holder, holding in self.held.items():
            lost = sorted(holding.ids - self.devices[resource].keys())
            if holder.resource == resource and lost and holder.pod not in self.gone:
                self.crashes.append(
                    f"{resource}: {lost} removed while {holder.pod}/{holder.container} holds them"
                    f" under topology policy {self.topology_policy}: crash at its next admission"
                )

    def _shared_ids(self, resource: str, seen: Iterable[SeenDevice]) -> list[ListFault]:
        ids = {device.id for device in seen}
        return [
            ListFault(resource, Kind.SHARED, f"ids {sorted(shared)} are also listed by {other}")
            for other, known in self.devices.items()
            if other != resource and (shared := ids & known.keys())
        ]


def list_faults(resource: str, seen: Sequence[SeenDevice]) -> list[ListFault]:
    """What a list should not hold though the kubelet accepts it."""
    counted = Counter(device.id for device in seen)
    twice = sorted(name for name, count in counted.items() if count > 1)
    empty = sorted({device.id for device in seen if device.numa_nodes == ()})
    negative = sorted({device.id for device in seen if any(node < 0 for node in device.nodes)})
    words = sorted({device.health for device in seen} - {HEALTHY, UNHEALTHY})
    mixed = len({device.numa_nodes is None for device in seen}) > 1
    faults = (
        (twice, Kind.DUPLICATE, f"duplicate ids {twice}"),
        (empty, Kind.EMPTY_TOPOLOGY, f"empty TopologyInfo on {empty}"),
        (negative, Kind.NEGATIVE_NODE, f"negative NUMA node on {negative}"),
        (words, Kind.HEALTH_WORD, f"unknown health words {words}"),
        (mixed, Kind.MIXED_TOPOLOGY, "some devices with topology, some without"),
    )
    return [ListFault(resource, kind, text) for found, kind, text in faults if found]


def _seen(device: pluginapi.Device) -> SeenDevice:
    nodes = tuple(node.ID for node in device.topology.nodes)
    has_topology = device.HasField("topology")
    return SeenDevice(
        id=device.ID, health=device.health, numa_nodes=nodes if has_topology else None
    )
