"""The contract of sharing: how a vendor limits shares, and ways to share that need a program.

Everything here is of the public module `deviceplugin.vendor`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from deviceplugin.host import Host
from deviceplugin.model import NOTHING, ContainerEdits, Device, Isolation, ResourceName, Share


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a container has of one shared device: `count` of its shares.

    `memory_bytes` is the memory that they stand for, `percent` their part of the device, rounded
    down to whole numbers; None where the device's memory is unknown. Where shares come with compute
    (`share.compute_percent`), `percent` is that of the compute, and `numbers` are those of the
    shares, from 0 on: no other container has one of them at the same time.
    """

    device: Device
    share: Share
    count: int
    memory_bytes: int | None = None
    percent: int | None = None
    numbers: tuple[int, ...] = ()


# Why programs that go by what they are told are not held to such a share of a device's compute,
# "" where they are; pure.
ComputeLimit = Callable[[Device, Share], str]


@runtime_checkable
class ShareLimits(Protocol):
    """A vendor that tells a container, or what enforces limits, how much of a device it has."""

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        """What a container with these shares gets beside `container_edits` of their devices.

        The grants are of one resource, in PCI address order. `share.variables` are those that the
        rule names. Pure, called on the vendor's answering thread when such shares are first given.
        Raises AllocationError where a limit that is asked for cannot be set.
        """


class SharedResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that is shared by a vendor's method, with its devices in PCI address order.

    `replicas` is how many containers share a device; None where slices have sizes of their own:
    then `unit_bytes` is that of a slice, `compute_percent` the compute that comes with it, and
    `most` how many a container may have (None: any number).
    """

    name: ResourceName
    devices: tuple[Device, ...]
    replicas: int | None
    unit_bytes: int | None = None
    compute_percent: int | None = None
    most: int | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A program that is run to its end with `text` as its input; it succeeds with status 0."""

    arguments: tuple[str, ...]
    text: str = ""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program that the daemon runs for one resource, as its child, for as long as it is shared.

    `arguments` start it in the foreground, `env` is the whole environment of it and of all
    commands. `folders`, as this process sees them, are made before (mode 755). It serves once
    `probe` succeeds and each command of `setup` has succeeded after that; without a probe, once it
    is started. A probe that succeeds before the start has found the program of an earlier run,
    which is used until it ends. Before it serves, each file that it made and that is in `links`
    gets one more name, in a folder that clients are given: so they need no folder of its own.
    `output` is the file, below one of `folders`, that gets what the program prints, at most 2 MiB
    of it; without one that is lost. Processes that it leaves in its process group are ended.
    """

    arguments: tuple[str, ...]
    env: Mapping[str, str] = msgspec.field(default_factory=lambda: NOTHING)
    folders: tuple[str, ...] = ()
    probe: Command | None = None
    setup: tuple[Command, ...] = ()
    links: Mapping[str, str] = msgspec.field(default_factory=lambda: NOTHING)
    output: str | None = None


Launch = Callable[[SharedResource], Program]
Prepare = Callable[[Host, Mapping[str, msgspec.Struct]], Launch]


class SharingMethod(Protocol):
    """A vendor's way to share a device among containers, by a program on the node.

    `TITLE` and `DEVICES` are its name and the devices that it is for, in messages; `ADVICE` what
    a person should do while its program does not serve. `SETTINGS` is the schema of the section
    `sharing.<method>`, every field of which has a default. A method may also have
    `automatic(sections)`: whether it is to be used for slices of memory whose rule names no method,
    where `prepare` finds its program; pure.
    """

    TITLE: str
    DEVICES: str
    ADVICE: str
    SETTINGS: type[msgspec.Struct]

    def refusal(self, device: Device) -> str | None:
        """Why a device of this vendor cannot be shared so, None where it can; pure."""

    def isolation(self, share: Share) -> Isolation:
        """What keeps the containers of such a share apart; pure."""

    def prepare(self, host: Host, sections: Mapping[str, msgspec.Struct]) -> Launch:
        """What makes the program of each resource; called when the first one is needed.

        `sections["sharing"]` has the method's own settings. Raises UnavailableError while the
        program is not on this node: the devices wait, Unhealthy with this reason, and it is asked
        again every 5 s. The `Launch` is pure.
        """

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        """What a container of the resource gets to find the program; pure."""
