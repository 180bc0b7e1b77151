"""Values that describe pods and their admission. No behaviour beyond reading them."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

Requests = Mapping[str, Mapping[str, int]]
_NONE: Requests = MappingProxyType({})


class Kind(Enum):
    """The three kinds of container that differ in what happens to their devices."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"


class Pod(Struct, frozen=True, kw_only=True):
    """A pod: per container the number of devices per resource. Order: init, sidecars, main."""

    name: str
    namespace: str = "default"
    containers: Requests
    init_containers: Requests = field(default_factory=lambda: _NONE)
    sidecars: Requests = field(default_factory=lambda: _NONE)

    @property
    def key(self) -> str:
        """Its identity: "namespace/name"."""
        return f"{self.namespace}/{self.name}"

    def steps(self) -> Iterator[tuple[Kind, str, Mapping[str, int]]]:
        """Every container in the order of allocation."""
        kinds = (
            (Kind.INIT, self.init_containers),
            (Kind.SIDECAR, self.sidecars),
            (Kind.MAIN, self.containers),
        )
        for kind, requests in kinds:
            for name, wanted in requests.items():
                yield kind, name, wanted


class Allocation(Struct, frozen=True, kw_only=True):
    """One Allocate call that succeeded; device_ids are sorted, elapsed_s is the call's time."""

    container: str
    resource: str
    device_ids: tuple[str, ...]
    answer: pluginapi.ContainerAllocateResponse
    elapsed_s: float


class Admission(Struct, frozen=True, kw_only=True):
    """A pod that was let in, with every Allocate call made for it."""

    pod: Pod
    allocations: tuple[Allocation, ...]

    def of(self, container: str, resource: str) -> Allocation:
        """The allocation of one container and resource; KeyError when there was no call."""
        for allocation in self.allocations:
            if (allocation.container, allocation.resource) == (container, resource):
                return allocation
        raise KeyError(f"no Allocate of {resource} for {self.pod.key}/{container}")


class AdmissionError(Exception):
    """The pod is rejected. The text is that of the pod's status, `cause` the part of Allocate."""

    def __init__(self, pod: str, cause: str, reason: str = "UnexpectedAdmissionError") -> None:
        super().__init__(f"Allocate failed due to {cause}, which is unexpected")
        self.pod = pod
        self.cause = cause
        self.reason = reason
