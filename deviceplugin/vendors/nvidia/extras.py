"""What containers can have beside NVIDIA GPUs, where the section asks for it: GPUDirect Storage
(GDS), Mellanox' OFED (MOFED), GDRCopy and the IMEX channel; reads which nodes exist."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.edits import merge_edits
from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceNode,
    Fault,
    FaultClass,
    Mount,
    frozen,
)
from deviceplugin.vendors.nvidia.edits import VOLUME_MOUNTS
from deviceplugin.vendors.nvidia.settings import NvidiaSection

SOURCE = "nvidia.extras"
_DOMAIN = "k8s.device-plugin.nvidia.com"
IMEX_FOLDER = "/dev/nvidia-caps-imex-channels"


class Kind(Struct, frozen=True, kw_only=True):
    """One of them: `kind` is its class in CDI, `nodes` patterns of paths below a device root,
    `mounts` what containers get of the host's files where the daemon sees them, `action` what
    brings missing nodes."""

    kind: str
    nodes: tuple[str, ...]
    action: str
    mounts: tuple[str, ...] = ()

    @property
    def cdi_kind(self) -> str:
        """The qualified class."""
        return f"{_DOMAIN}/{self.kind}"


# In the order of NVIDIA's plugin, which has these kinds, nodes and variables too.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "imex_channels": Kind(
            kind="imex-channel",
            nodes=(f"{IMEX_FOLDER}/channel0",),
            action="create the channel on the host: nvidia-modprobe -i 0, or the driver's option"
            " NVreg_CreateImexChannel0=1",
        ),
        "gdrcopy": Kind(
            kind="gdrcopy", nodes=("/dev/gdrdrv",), action="load the module gdrdrv on the host"
        ),
        "gds": Kind(
            kind="gds",
            nodes=("/dev/nvidia-fs*",),
            action="load the module nvidia_fs on the host",
            mounts=("/run/udev", "/etc/cufile.json"),
        ),
        "mofed": Kind(
            kind="mofed",
            nodes=("/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs*"),
            action="load the modules ib_uverbs and rdma_ucm of the host's OFED",
        ),
    }
)


class Extra(Struct, frozen=True, kw_only=True):
    """One that is asked for and there: its key in the section, and what it is made of."""

    name: str
    edits: ContainerEdits

    @property
    def cdi_name(self) -> str:
        """The qualified name in our CDI file."""
        return f"{KINDS[self.name].cdi_kind}={self.device}"

    @property
    def device(self) -> str:
        """The name in its class."""
        return "0" if self.name == "imex_channels" else "all"

    @property
    def told(self) -> str:
        """Name and nodes, in which a change is seen."""
        paths = [node.path for node in self.edits.device_nodes]
        paths += [mount.path for mount in self.edits.mounts]
        return f"{self.name} ({', '.join(paths)})"


def asked(settings: NvidiaSection) -> tuple[str, ...]:
    """The keys that are switched on, in the order of answers."""
    return tuple(name for name in KINDS if getattr(settings, name))


def read_extras(host: Host, settings: NvidiaSection, dev_root: str) -> tuple[Extra, ...]:
    """Those that are asked for and have nodes below `dev_root` (a host path), else below /."""
    found = []
    for name in asked(settings):
        roots = dict.fromkeys((dev_root.rstrip("/"), ""))
        nodes = next((n for root in roots if (n := _nodes(host, root, KINDS[name]))), ())
        if nodes:
            mounts = [Mount(path=m, host_path=m) for m in KINDS[name].mounts if host.exists(m)]
            edits = ContainerEdits(device_nodes=nodes, mounts=tuple(mounts))
            found.append(Extra(name=name, edits=edits))
    return tuple(found)


def _nodes(host: Host, root: str, kind: Kind) -> tuple[DeviceNode, ...]:
    return tuple(
        DeviceNode(path=path, host_path=f"{root}{path}")
        for pattern in kind.nodes
        for path in _matching(host, root, pattern)
    )


def _matching(host: Host, root: str, pattern: str) -> Iterator[str]:
    folder, _, name = pattern.rpartition("/")
    try:
        names = host.read_names(f"{root}{folder}") if "*" in name else ()
    except VendorError:  # what cannot be seen cannot be given
        return
    if "*" in name:
        yield from (f"{folder}/{found}" for found in names if fnmatchcase(found, name))
    elif host.exists(f"{root}{pattern}"):
        yield pattern


def extra_edits(settings: NvidiaSection, extras: Sequence[Extra]) -> ContainerEdits:
    """Variables, and for strategies without CDI what stands for the channel; CDI names are with
    those of the GPUs."""
    strategies = set(settings.device_list_strategy)
    parts = [
        ContainerEdits(env=frozen({f"NVIDIA_{extra.name.upper()}": "enabled"}))
        for extra in extras
        if extra.name != "imex_channels"
    ]
    if any(extra.name == "imex_channels" for extra in extras):
        if "envvar" in strategies:
            parts.append(ContainerEdits(env=frozen({"NVIDIA_IMEX_CHANNELS": "0"})))
        if "volume-mounts" in strategies:
            path = f"{VOLUME_MOUNTS}/imex/0"
            mount = Mount(path=path, host_path="/dev/null", read_only=False)
            parts.append(ContainerEdits(mounts=(mount,)))
    if settings.pass_device_specs and strategies & {"envvar", "volume-mounts"}:
        nodes = tuple(node for extra in extras for node in extra.edits.device_nodes)
        parts.append(ContainerEdits(device_nodes=nodes))
    return merge_edits(parts)


def extra_specs(extras: Sequence[Extra], *, uses_cdi: bool) -> Iterator[CdiSpec]:
    """A file for each kind; without devices where there is none, or no strategy asks for CDI."""
    edits = {extra.name: {extra.device: extra.edits} for extra in extras if uses_cdi}
    for name, kind in KINDS.items():
        yield CdiSpec(kind=kind.cdi_kind, devices=edits.get(name, {}))


def extra_faults(
    settings: NvidiaSection, extras: Sequence[Extra], devices: Sequence[Device]
) -> Iterator[Fault]:
    """One for each device and each that is asked for and absent: containers go without it, but
    for a channel that is required."""
    absent = [name for name in asked(settings) if name not in {extra.name for extra in extras}]
    for name in absent:
        kind, required = KINDS[name], name == "imex_channels" and settings.imex_required
        code = f"{name.removesuffix('s') if name == 'imex_channels' else name}_missing"
        reason = f"nvidia.{name} is on, but the host has no {' or '.join(kind.nodes)}"
        instead = "the GPU is not given without it" if required else "containers go without it"
        for device in devices:
            yield Fault(
                device=device.id,
                source=SOURCE,
                code=code,
                reason=f"{reason}: {instead}",
                action=f"{kind.action}, or switch nvidia.{name} off",
                kind=FaultClass.SETUP if required else FaultClass.WARN,
            )
