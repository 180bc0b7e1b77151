"""What the daemon may ask the privileged process, and what it answers: one JSON line each.

There is no request with a path, a command or a step of the daemon's own: `apply` names a layout,
and the steps that the daemon was shown before, which must be those that are planned again now;
`fit` names places of MIG instances, and goes for GPUs of a layout with `on_demand`.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

from deviceplugin.errors import DevicePluginError
from deviceplugin.provision.section import Layout
from deviceplugin.provision.values import Held, Outcome, Place, Planned
from deviceplugin.runtime.sockets import user_of
from deviceplugin.vendor.partitions import Step

FILE = "provision.sock"
MAX_BYTES = 4 << 20
LOOK_S = 30.0  # a look reads every GPU
FIT_S = 30.0  # a kubelet waits 45 s for a claim
APPLY_S = 900.0  # a memory mode loads a driver again


class Look(Struct, frozen=True, kw_only=True, tag="look"):
    """Read the GPUs and plan these layouts."""

    layouts: tuple[Layout, ...] = ()
    held: tuple[Held, ...] = ()


class Apply(Struct, frozen=True, kw_only=True, tag="apply"):
    """Cut one GPU by a layout, where that still takes exactly these steps; `layouts` are those of
    all GPUs, where its driver is loaded again with theirs."""

    gpu: str
    layout: Layout
    steps: tuple[Step, ...]
    layouts: tuple[Layout, ...] = ()
    held: tuple[Held, ...] = ()


class Recover(Struct, frozen=True, kw_only=True, tag="recover"):
    """Finish, or take back, what was begun when a process ended."""

    held: tuple[Held, ...] = ()


class Fit(Struct, frozen=True, kw_only=True, tag="fit"):
    """Have the MIG instances that claims have or ask for, and none else of ours, on one GPU; or
    the `whole` of it, without MIG mode."""

    gpu: str
    places: tuple[Place, ...] = ()
    whole: bool = False
    held: tuple[Held, ...] = ()


class Limit(Struct, frozen=True, kw_only=True, tag="limit"):
    """Hold a container, or else a pod, to bytes of each region of device memory; of neither, have
    the kernel's controller enabled for pods. `minimum` protects as much for it, too."""

    container: str = ""
    pod: str = ""
    regions: Mapping[str, int] = field(default_factory=dict)
    minimum: bool = False


Request = Look | Apply | Fit | Recover | Limit


class Answer(Struct, frozen=True, kw_only=True):
    """`planned` by layout, `problems` of vendors that could not be read, `begun` the steps of a
    change that is not over, `owners` others that partition this node, `busy` that a change runs.

    `drain_wait_s` is for how long a GPU that is held is kept from new pods; `error` is why nothing
    was done.
    """

    planned: tuple[Planned, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    begun: tuple[Step, ...] = ()
    owners: tuple[str, ...] = ()
    drain_wait_s: float = 0.0
    outcome: Outcome | None = None
    busy: bool = False
    error: str = ""


class NoHelperError(DevicePluginError):
    """The privileged process does not answer."""


def ask_helper(path: Path, request: Request, timeout_s: float) -> Answer:
    """Its answer; blocks. Raises NoHelperError, also where neither root nor our user answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(timeout_s)
            peer.connect(str(path))
            if not is_trusted(user_of(peer)):
                raise NoHelperError(f"{path}: neither root nor our own user answers there")
            peer.sendall(msgspec.json.encode(request) + b"\n")
            content = read_line(peer)
        return msgspec.json.decode(content, type=Answer)
    except (OSError, msgspec.MsgspecError) as error:
        told = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise NoHelperError(f"deviceplugin provision does not answer on {path}: {told}") from error


def is_trusted(uid: int) -> bool:
    """Root, or the user that we are."""
    return uid in (0, os.getuid())


def read_line(peer: socket.socket) -> bytes:
    """A line of at most MAX_BYTES; raises OSError."""
    content = bytearray()
    while not content.endswith(b"\n"):
        more = peer.recv(1 << 16)
        if not more:
            break
        content += more
        if len(content) > MAX_BYTES:
            raise OSError(f"a message of more than {MAX_BYTES} bytes")
    return bytes(content)
