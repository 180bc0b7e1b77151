"""What planning gives: steps, a reason why not, or whom to wait for; pure."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.errors import DevicePluginError
from deviceplugin.vendor.partitions import PartitionedGpu, Step

Place = tuple[str, int]  # a MIG profile and where it starts


class Refused(DevicePluginError):  # noqa: N818  # an answer, not a failure
    """Why a layout cannot be made on a GPU."""


class Waiting(DevicePluginError):  # noqa: N818
    """Why a layout cannot be made yet: somebody holds what would have to go."""

    def __init__(self, holders: tuple[str, ...], reason: str) -> None:
        self.holders = holders
        super().__init__(reason)


class Peer(Struct, frozen=True, kw_only=True):
    """A GPU whose driver is loaded again with that of others, and the modes that its layout asks
    for."""

    gpu: PartitionedGpu
    compute: str | None = None
    memory: str | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What planning one GPU goes by beside the hardware: places that we made, places that are held
    with their holder, whether what others made may be destroyed, and the GPUs of its driver."""

    made: frozenset[Place] = frozenset()
    held: Mapping[Place, str] = field(default_factory=lambda: MappingProxyType({}))
    adopt: bool = False
    peers: tuple[Peer, ...] = ()


class Held(Struct, frozen=True, kw_only=True):
    """A device that a pod or a claim holds: `gpu` is the id or the PCI address of the GPU that it
    is, or is a part of."""

    gpu: str
    device: str
    holder: str


class Outcome(Struct, frozen=True, kw_only=True):
    """How a change ended: `done`, `undone` with the reason, or `stuck`: neither way goes on, the
    journal stays and the next start tries again."""

    state: str
    reason: str = ""


class Planned(Struct, frozen=True, kw_only=True):
    """The answer for one GPU: `state` is as-wanted, change, pending or refused; `made` are the
    instances of ours, and `on_demand` that claims say what there is."""

    gpu: PartitionedGpu
    wish: str
    state: str
    steps: tuple[Step, ...] = ()
    reason: str = ""
    made: tuple[Place, ...] = ()
    on_demand: bool = False
