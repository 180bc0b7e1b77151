"""The contract's part about agents: programs beside a driver that report the health of its GPUs."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deviceplugin.model import Device, FaultClass

MAX_COMPLAINTS = 16  # of an agent about one GPU; further ones are not kept


class Complaint(Struct, frozen=True, kw_only=True):
    """One thing that an agent reports about a GPU, as the fault that it becomes.

    `code` is cut to 63 characters and `reason` to one line; `action` says what a person should do,
    empty for "see the agent's log and the kernel log for this GPU".
    """

    code: str
    reason: str
    kind: FaultClass
    action: str = ""


class AgentReport(Struct, frozen=True, kw_only=True):
    """Everything that an agent has against one GPU now; a GPU without complaints needs no report.

    `name` is the agent's own name for the GPU, `identity` that by which `AgentProtocol.resolve`
    finds our devices (a UUID, a PCI address): each of at most 253 characters. The first 16
    complaints are kept.
    """

    name: str
    identity: str
    complaints: tuple[Complaint, ...] = ()


# The reports of one agent by its names for the GPUs, the latest last.
Reports = Mapping[str, AgentReport]


class AgentProtocol(Protocol):
    """How to read an agent's messages; pure, called on the event loop: it must be quick."""

    def parse(self, message: bytes, reports: Reports) -> Reports:
        """What stands against GPUs after `message` (one gRPC message, at most 512 KiB), when
        `reports` stood before it: where each message is about one GPU, the others' stay.

        `reports` is empty at each new connection. At most 256 are kept, this node's devices first.
        Raises ValueError for a message that cannot be read; the connection is then made again.
        """

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        """Those of the vendor's own `devices` that a report means; none where it means no device
        of this node."""


class Agent(Struct, frozen=True, kw_only=True):
    """A program of the vendor beside its driver that reports health on a unix socket by gRPC.

    `source` is that of its faults (`<vendor>.<part>`), `socket` a path on the host that root or the
    daemon's user must own, `method` the full name (`/package.Service/Method`), `request` the
    encoded message to call it with. With `streams` one call goes on answering, else it is called
    every 30 s. The faults of a lost agent stay until `stale_s` seconds after its last message.
    """

    source: str
    socket: str
    method: str
    protocol: AgentProtocol
    request: bytes = b""
    streams: bool = False
    stale_s: float = 120.0


@runtime_checkable
class AgentSource(Protocol):
    """A vendor with agents that the daemon listens to while `health.agents` is on.

    The daemon connects, tries again, bounds what is kept, clears what is stale, and keeps to
    reports about the vendor's own devices.
    """

    def agents(self) -> Sequence[Agent]:
        """The agents that a node may have; called on the event loop for each configuration, must
        not block. A socket that is not there costs nothing."""
