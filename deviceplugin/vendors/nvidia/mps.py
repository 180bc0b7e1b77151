"""NVIDIA's Multi-Process Service as a way to share GPUs: `sharing: mps` of a rule.

Commands are those of NVIDIA's MPS documentation. Directories are our own and nobody else's to
write.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, cast

import msgspec

from deviceplugin.errors import UnavailableError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, Isolation, Mount, ResourceName, Share, frozen
from deviceplugin.schema import Places, Section
from deviceplugin.vendor import Command, Launch, Program, Sections, SharedResource
from deviceplugin.vendors.nvidia.folders import PLACES

CONTROL = "nvidia-cuda-mps-control"
PROGRAM = f"/usr/bin/{CONTROL}"
PROBE = "get_default_active_thread_percentage"
MEMORY_LIMIT = "set_default_device_pinned_mem_limit"
THREADS = "set_default_active_thread_percentage"
MIB = 1 << 20
OWN_FOLDERS = ("pipe", "log", "client")


class MpsSettings(Section, frozen=True):
    """Where NVIDIA's MPS is: `root` for pipes and logs (a path of the host), `control` the
    program as we run it, looked for where drivers have it if it is not said. `clients` get the
    daemon's socket alone, or with `directories` all of its pipes and a /dev/shm in common."""

    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {
            # Clients may write what is mounted from below it.
            "root": Places(("/run/nvidia/mps", "/var/run/nvidia/mps")),
            "control": Places(PLACES, (CONTROL,)),
        }
    )

    root: str = "/run/nvidia/mps"
    control: str | None = None
    clients: Literal["socket", "directories"] = "socket"


class Mps:
    """The sharing method `mps`: one control daemon for each resource."""

    TITLE = "MPS"
    DEVICES = "whole NVIDIA GPUs"
    ADVICE = (
        "see whether the driver with nvidia-cuda-mps-control is installed, what it printed to"
        " log/output.log of the resource's folder below sharing.mps.root, and its logs beside"
        " that, and whether another MPS uses the GPU"
    )
    SETTINGS: type[msgspec.Struct] = MpsSettings

    def refusal(self, device: Device) -> str | None:
        """MPS has no clients on MIG instances here: a daemon would be needed for each."""
        return "not supported for MIG devices" if device.parent else None

    def isolation(self, share: Share) -> Isolation:
        """MPS holds each client to the server's own limits, and a client cannot raise them. But a
        container leaves MPS by a CUDA_MPS_PIPE_DIRECTORY of its own, and then has the whole GPU
        (both seen on an H200 with driver 580.159.04), so this isolates nobody who does not want
        it."""
        return Isolation.NONE

    def automatic(self, sections: Sections) -> bool:
        """As the daemon's section `enforcement` says."""
        nvidia = getattr(sections.get("enforcement"), "nvidia", None)
        return getattr(nvidia, "mps", "off") == "auto"

    def prepare(self, host: Host, sections: Sections) -> Launch:
        """Find the control program; raises UnavailableError while there is none that is root's."""
        settings = _settings(sections)
        control = settings.control
        places = (control, host.path(control)) if control else tuple(_places(host, sections))
        places = tuple(dict.fromkeys(places))
        found = next((place for place in places if os.access(place, os.X_OK)), None)
        if found is None:
            raise UnavailableError(f"there is no program {CONTROL} at {' or '.join(places)}")
        if problem := _untrusted(host, found):
            raise UnavailableError(f"{found} is not run: {problem}")
        return MpsLaunch(found, host.path(settings.root))

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        """The socket of the resource's daemon, in a folder that has nothing else.

        On an H200 with driver 580.159.04 clients of root and of others, each with namespaces and a
        /dev/shm of its own, needed no more. Beside the socket lies `control_privileged`, by which
        root in a container can end MPS and change its limits, so that folder is not given.
        """
        section, pipe = cast("MpsSettings", settings), f"/mps/{resource}/pipe"
        folder = f"{section.root}/{resource}"
        mounts: tuple[Mount, ...] = (
            Mount(path=pipe, host_path=f"{folder}/client", read_only=True),
        )
        if section.clients == "directories":
            mounts = (
                Mount(path=pipe, host_path=f"{folder}/pipe", read_only=False),
                Mount(path="/dev/shm", host_path=f"{section.root}/shm", read_only=False),  # noqa: S108
            )
        return ContainerEdits(env=frozen({"CUDA_MPS_PIPE_DIRECTORY": pipe}), mounts=mounts)


class MpsLaunch(msgspec.Struct, frozen=True):
    """The control daemon of a resource: `control` the program, `root` as this process sees it."""

    control: str
    root: str

    def __call__(self, shared: SharedResource) -> Program:
        """In the foreground, limited to its GPUs; a command is text for a client."""
        folder = f"{self.root}/{shared.name}"
        client = (self.control,)
        env = {
            "PATH": "/usr/bin:/bin",
            "CUDA_VISIBLE_DEVICES": ",".join(device.id for device in shared.devices),
            "CUDA_MPS_PIPE_DIRECTORY": f"{folder}/pipe",
            "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log",
        }
        return Program(
            arguments=(self.control, "-f"),
            env=frozen(env),
            folders=tuple(f"{folder}/{name}" for name in OWN_FOLDERS),
            links=frozen({f"{folder}/pipe/control": f"{folder}/client/control"}),
            output=f"{folder}/log/output.log",
            probe=Command(arguments=client, text=f"{PROBE}\n"),
            setup=tuple(Command(arguments=client, text=f"{line}\n") for line in limits(shared)),
        )


def limits(shared: SharedResource) -> Sequence[str]:
    """The server's own limits, which no client can raise: an equal part for each replica, of slices
    the most that one container may have. What is less than that, its variables say."""
    if shared.replicas is None:
        return _slice_limits(shared)
    sizes = [
        f"{MEMORY_LIMIT} {index} {memory // shared.replicas // MIB}M"
        for index, memory in enumerate(device.memory_bytes for device in shared.devices)
        if memory is not None
    ]
    return (*sizes, f"{THREADS} {max(100 // shared.replicas, 1)}")


def _slice_limits(shared: SharedResource) -> Sequence[str]:
    unit, percent, most = shared.unit_bytes, shared.compute_percent, shared.most
    if unit is None or most is None:
        return ()
    size = most * unit // MIB
    sizes = [f"{MEMORY_LIMIT} {index} {size}M" for index in range(len(shared.devices))]
    return (*sizes, f"{THREADS} {min(most * percent, 100)}") if percent else sizes


def _untrusted(host: Host, program: str) -> str | None:
    """It runs as root; of the host's files those below the host's root are judged in it."""
    root = host.path("/")
    below = program.removeprefix(root) if len(root) > 1 else program
    return (host if below != program else Host()).untrusted(f"/{below.lstrip('/')}")


def _settings(sections: Sections) -> MpsSettings:
    return cast("MpsSettings", getattr(sections.get("sharing"), "mps", MpsSettings()))


def _places(host: Host, sections: Sections) -> Iterator[str]:
    """Our own tree and the driver's: a container sees the latter below the host's root."""
    roots = ["/", getattr(sections.get("nvidia"), "driver_root", "/"), "/run/nvidia/driver"]
    yield PROGRAM
    for root in dict.fromkeys(roots):
        yield host.path(f"{root.rstrip('/')}{PROGRAM}")
