"""Kubernetes' pods and nodes as the values that are packed; pure."""

import math
from collections.abc import Mapping
from decimal import Decimal
from itertools import chain

from msgspec import Struct, field

from deviceplugin.scheduler.about import NOTHING
from deviceplugin.scheduler.asking import Asking
from deviceplugin.scheduler.demand import WHOLE, Demand
from deviceplugin.scheduler.quantities import parse_quantity
from deviceplugin.scheduler.typed import Affinity, models_of

_ENDED = ("Succeeded", "Failed")
# Whose resources that are no whole GPUs are parts of them.
VENDORS = ("nvidia.com", "amd.com", "intel.com", "gpu.intel.com")
MAX_GPUS = 4096  # of a node, with those that are offered several times
Quantities = Mapping[str, str | int | float]


class _Owner(Struct):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Meta(Struct):
    """What all objects have."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = field(default=None, name="creationTimestamp")
    owners: list[_Owner] | None = field(default=None, name="ownerReferences")


class _Resources(Struct):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(Struct, rename="camel"):
    name: str = ""
    resources: _Resources = field(default_factory=_Resources)
    restart_policy: str | None = None

    @property
    def asked(self) -> Quantities:
        """What is limited and not requested is requested by its limit."""
        return {**(self.resources.limits or {}), **(self.resources.requests or {})}


class _PodClaim(Struct, rename="camel"):
    name: str = ""
    resource_claim_name: str | None = None


class _ClaimsOfStatus(Struct, rename="camel"):
    resource_claim_name: str = ""


class _PodSpec(Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    overhead: dict[str, str | int | float] | None = None
    priority: int | None = None
    affinity: Affinity | None = None
    resource_claims: list[_PodClaim] | None = None


class _Given(Struct, rename={"id": "resourceID"}):
    id: str = ""


class _GivenOf(Struct):
    resources: list[_Given] | None = None


class _ContainerStatus(Struct, rename="camel"):
    allocated_resources_status: list[_GivenOf] | None = None


class _PodStatus(Struct, rename="camel"):
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    start_time: str | None = None
    container_statuses: list[_ContainerStatus] | None = None
    resource_claim_statuses: list[_PodClaim] | None = None
    extended_resource_claim_status: _ClaimsOfStatus | None = None


class Pod(Struct):
    """A pod, as far as it is about where it runs and what it holds there."""

    metadata: Meta = field(default_factory=Meta)
    spec: _PodSpec = field(default_factory=_PodSpec)
    status: _PodStatus = field(default_factory=_PodStatus)

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return self.metadata.annotations or {}

    @property
    def app(self) -> str:
        """What its neighbours are called by: the usual label, else `app`."""
        labels = self.metadata.labels or {}
        return labels.get("app.kubernetes.io/name") or labels.get("app", "")

    @property
    def owner(self) -> tuple[str, str]:
        """Kind and name of what made it; itself where nothing did."""
        owners = self.metadata.owners or []
        made = [one for one in owners if one.controller] or owners
        return (made[0].kind, made[0].name) if made else ("Pod", self.metadata.name)

    @property
    def container(self) -> str:
        """The first container that asks for GPUs, else the first."""
        containers = self.spec.containers or []
        using = (one for one in containers if any(_is_of_gpus(name) for name in one.asked))
        return next(chain(using, containers), _Container()).name

    @property
    def ids(self) -> frozenset[str]:
        """The ids of devices that the kubelet says it was given."""
        statuses = self.status.container_statuses or []
        return frozenset(
            given.id
            for status in statuses
            for resource in status.allocated_resources_status or []
            for given in resource.resources or []
        )

    @property
    def claims(self) -> tuple[str, ...]:
        """Namespace and name of its ResourceClaims, as far as they are made."""
        made = {
            one.name: one.resource_claim_name for one in self.status.resource_claim_statuses or []
        }
        named = (
            one.resource_claim_name or made.get(one.name) for one in self.spec.resource_claims or []
        )
        return tuple(f"{self.metadata.namespace}/{name}" for name in named if name)

    @property
    def given(self) -> tuple[object, ...]:
        """What its status says it was given."""
        return self.ids, self.claim_of_resources

    @property
    def claim_of_resources(self) -> str:
        """The claim that kube-scheduler made of the resources that it asks for; empty if none."""
        status = self.status.extended_resource_claim_status
        return f"{self.metadata.namespace}/{status.resource_claim_name}" if status else ""

    @property
    def key(self) -> str:
        """The pod's uid; a static pod has another one on the API server, which is the one here."""
        return self.metadata.uid or f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.status.phase in _ENDED

    @property
    def holds(self) -> bool:
        """Whether it holds anything of a node."""
        return bool(self.spec.node_name) and self.status.phase not in _ENDED


class _NodeStatus(Struct):
    allocatable: dict[str, str | int | float] | None = None


class Node(Struct):
    """A node: its name, its labels, and what it has to give."""

    metadata: Meta = field(default_factory=Meta)
    status: _NodeStatus = field(default_factory=_NodeStatus)


class Reading(Struct, frozen=True, kw_only=True):
    """How GPUs are asked for.

    `gpus` are resources of which one is a whole GPU, `shares` those of which one is so many
    thousandths of a GPU, and `model_label` the label of nodes that names the GPU's model.
    """

    gpus: tuple[str, ...] = (
        "nvidia.com/gpu",
        "amd.com/gpu",
        "intel.com/gpu",
        "gpu.intel.com/xe",
        "gpu.intel.com/i915",
    )
    shares: Mapping[str, int] = field(default_factory=dict)
    model_label: str = "nvidia.com/gpu.product"
    asking: Asking = Asking()

    def demand_of(self, pod: Pod) -> Demand:
        """What the pod asks for: the sum of its containers, or an init container that asks for
        more. Raises ValueError for a quantity that is none."""
        asked = _asked(pod.spec)
        whole = sum(_integer(asked, name) for name in self.gpus)
        shared = sum(_integer(asked, name) * milli for name, milli in self.shares.items())
        gpus, milli = gpus_of(whole, shared)
        return Demand(
            cpu_milli=math.ceil(asked.get("cpu", 0) * 1000),
            memory_mib=math.ceil(asked.get("memory", 0) / (1 << 20)),
            gpus=gpus,
            gpu_milli=milli,
            models=models_of(pod.spec, self.model_label) if gpus else frozenset(),
            parts=(parts := self._parts_of(asked)),
            wants=self.asking.wants_of(pod.annotations, pod.spec.priority or 0)
            if gpus or parts
            else NOTHING,
        )

    def _parts_of(self, amounts: Mapping[str, Decimal]) -> tuple[tuple[str, int], ...]:
        """The other resources of the vendors of GPUs, and how many of each."""
        found = ((name, int(amount)) for name, amount in amounts.items() if self._is_part(name))
        return tuple(sorted((name, count) for name, count in found if count))

    def _is_part(self, name: str) -> bool:
        return _is_of_gpus(name) and name not in self.gpus and name not in self.shares

    def parts_of(self, node: Node) -> dict[str, int]:
        """What the node has of such resources. Raises ValueError."""
        given = {
            name: parse_quantity(text)
            for name, text in (node.status.allocatable or {}).items()
            if self._is_part(name)
        }
        return {name: int(amount) for name, amount in sorted(given.items())}

    def capacity_of(self, node: Node) -> tuple[str, int, int, int]:
        """The GPUs' model, thousandths of a CPU, MiB of memory, and the number of GPUs. A GPU that
        is offered both whole and in shares counts once. Raises ValueError."""
        given = {
            name: parse_quantity(text) for name, text in (node.status.allocatable or {}).items()
        }
        whole = sum(_integer(given, name) for name in self.gpus)
        shared = max([0, *(_integer(given, n) * milli for n, milli in self.shares.items())])
        gpus = max(whole, shared // WHOLE)
        if not 0 <= gpus <= MAX_GPUS:
            raise ValueError(f"not a number of GPUs: {gpus}")
        return (
            (node.metadata.labels or {}).get(self.model_label, ""),
            math.floor(given.get("cpu", 0) * 1000),
            math.floor(given.get("memory", 0) / (1 << 20)),
            gpus,
        )


def labels_of(node: Node) -> Mapping[str, str]:
    """Its labels."""
    return node.metadata.labels or {}


def gpus_of(whole: int, shared: int) -> tuple[int, int]:
    """Whole GPUs and shares as a number of GPUs with the same part of each; a share of more than a
    GPU is whole ones."""
    if whole or not shared:
        return whole + math.ceil(shared / WHOLE), WHOLE
    return (1, shared) if shared <= WHOLE else (math.ceil(shared / WHOLE), WHOLE)


def _asked(spec: _PodSpec) -> Mapping[str, Decimal]:
    """Kubernetes' effective request; a sidecar counts as a container."""
    inits = spec.init_containers or []
    running = [*(spec.containers or []), *(c for c in inits if c.restart_policy == "Always")]
    total: dict[str, Decimal] = {}
    for quantities in (*(_read(one.asked) for one in running), _read(spec.overhead or {})):
        for name, amount in quantities.items():
            total[name] = total.get(name, Decimal()) + amount
    for container in inits:
        for name, amount in _read(container.asked).items():
            total[name] = max(total.get(name, Decimal()), amount)
    return total


def _read(quantities: Quantities) -> Mapping[str, Decimal]:
    return {name: parse_quantity(text) for name, text in quantities.items()}


def _is_of_gpus(name: str) -> bool:
    return name.partition("/")[0] in VENDORS and not name.endswith("monitoring")


def _integer(amounts: Mapping[str, Decimal], name: str) -> int:
    return int(amounts.get(name, 0))
