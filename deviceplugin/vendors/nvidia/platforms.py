"""Places whose GPU is not asked for through NVML: Tegra (Jetson) and WSL. One device each, without
health: the files say that it is there, and nothing more."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from deviceplugin.errors import UnavailableError, VendorError
from deviceplugin.faults import NODE_MISSING
from deviceplugin.host import Host
from deviceplugin.host.pci import read_gpus
from deviceplugin.model import ContainerEdits, Device, DeviceID, Fault, Mount, frozen
from deviceplugin.vendors.nvidia.devices import WHOLE, Found
from deviceplugin.vendors.nvidia.discovery import Scan
from deviceplugin.vendors.nvidia.driver_files import DriverFiles, cache_hooks, folders_inside
from deviceplugin.vendors.nvidia.faults import DISCOVERY
from deviceplugin.vendors.nvidia.folders import DriverTree
from deviceplugin.vendors.nvidia.missing import VENDOR_ID
from deviceplugin.vendors.nvidia.settings import NvidiaSection

TEGRA, WSL = "tegra", "wsl"
# The ids that NVIDIA's plugin has, and the values of NVIDIA_VISIBLE_DEVICES.
IDS = {TEGRA: DeviceID("tegra"), WSL: DeviceID("all")}
RELEASE, FAMILY = "/etc/nv_tegra_release", "/sys/devices/soc0/family"
MODEL, COMPATIBLE = "/proc/device-tree/model", "/proc/device-tree/compatible"
CSV_FOLDER = "/etc/nvidia-container-runtime/host-files-for-container.d"
CSV_FILES = ("devices.csv", "drivers.csv", "l4t.csv")
MAX_CSV_BYTES, MAX_LINES = 1 << 20, 4000
# The driver's nodes where no file names them.
_TEGRA_NODES = ("/dev/nvhost-*", "/dev/nvmap", "/dev/nvgpu/*/*")
_GPU_NODES = ("/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu/*")
DXG, WSL_LIBRARIES, WSL_DRIVERS = "/dev/dxg", "/usr/lib/wsl/lib", "/usr/lib/wsl/drivers"
_LINE = re.compile(r"\s*(dev|lib|sym|dir)\s*,\s*(/\S*)\s*")
_L4T = re.compile(r"R(\d+)\b.*?REVISION:\s*(\d+(?:\.\d+)*)")
_NEVER_MOUNTED = ("/dev/", "/proc/", "/sys/")
_INTEGRATED = "NVIDIA Thor"


class Platform(Struct, frozen=True, kw_only=True):
    """The place; `nodes` are host paths, `files` what CDI files need beside them."""

    name: str
    product: str
    nodes: tuple[str, ...]
    wanted: str
    files: DriverFiles
    release: str | None = None


def read_platform(host: Host, settings: NvidiaSection) -> Platform | None:
    """The place that this host is, None for one whose GPUs NVML shows.

    Raises UnavailableError where the configuration names one that it is not.
    """
    strategy = settings.device_discovery_strategy
    if strategy in ("auto", WSL) and _is_wsl(host):
        return _wsl(host, settings)
    if strategy in ("auto", TEGRA) and _is_tegra(host):
        return _tegra(host, settings)
    if strategy in (TEGRA, WSL):
        signs = {
            TEGRA: f"neither {RELEASE}, nor tegra in {FAMILY} or {COMPATIBLE}",
            WSL: f"no {DXG} with NVIDIA's libraries in {WSL_LIBRARIES}",
        }
        text = f"nvidia.device_discovery_strategy is {strategy}, but the host has {signs[strategy]}"
        raise UnavailableError(text)
    return None


def is_alone(platform: Platform, settings: NvidiaSection) -> bool:
    """Whether NVML need not be asked."""
    return platform.name == WSL or settings.device_discovery_strategy == TEGRA


def has_only_integrated(host: Host, scan: Scan) -> bool:
    """Whether NVML shows the Tegra's own GPU alone: no card has answered, and none is on the bus
    (NVML names the GPU of an Orin `Orin (nvgpu)`, that of a Thor `NVIDIA Thor`)."""
    own = [g for g in scan.gpus if "(nvgpu)" in (g.product or "") or g.product == _INTEGRATED]
    addresses = {gpu.pci_address for gpu in own}
    cards = read_gpus(host, VENDOR_ID, lambda _address, _error: None)
    return len(own) == len(scan.gpus) and all(card.address in addresses for card in cards)


def is_platform(device: Device) -> bool:
    """Whether a device is the one of such a place, which NVML cannot be asked about."""
    return device.id in IDS.values()


def platform_found(platform: Platform, settings: NvidiaSection) -> Found:
    """Its one device, and what is missing of it."""
    known = {"platform": platform.name, "l4t": platform.release}
    device = Device(
        id=IDS[platform.name],
        vendor="nvidia",
        product=platform.product,
        resource=WHOLE,
        index=0,
        nodes=platform.nodes,
        attributes=frozen({key: value for key, value in known.items() if value is not None}),
    )
    return (device,), tuple(_faults(platform, settings, device))


def _faults(platform: Platform, settings: NvidiaSection, device: Device) -> Iterator[Fault]:
    if settings.needs_nodes and not platform.nodes:
        action = "check that NVIDIA's modules are loaded, and that the pod mounts the host's /dev"
        yield NODE_MISSING.fault(device.id, DISCOVERY, platform.wanted, action=action)


def _is_wsl(host: Host) -> bool:
    """Any GPU of Windows has the node; the library is that of NVIDIA's driver."""
    return host.exists(DXG) and any(
        name.startswith(("libcuda.so", "libnvidia-ml.so")) for name in _names(host, WSL_LIBRARIES)
    )


def _wsl(host: Host, settings: NvidiaSection) -> Platform:
    hooks, refused = cache_hooks(host, settings.cdi_hook_path, (WSL_LIBRARIES,))
    names = [name for name in _names(host, WSL_LIBRARIES) if ".so" in name]
    places = () if hooks else folders_inside(WSL_LIBRARIES, alone=False)
    libraries = (
        Mount(path=f"{place}/{name}", host_path=f"{WSL_LIBRARIES}/{name}")
        for place in places
        for name in names
    )
    folders = [f for f in (WSL_DRIVERS, WSL_LIBRARIES) if host.exists(f)]
    mounts = (*(Mount(path=f, host_path=f) for f in folders), *libraries)
    edits = ContainerEdits(mounts=mounts, hooks=hooks)
    files = DriverFiles(edits=edits, problem=None, hook_problem=refused)
    product = "NVIDIA GPUs of Windows (WSL)"
    return Platform(name=WSL, product=product, nodes=(DXG,), wanted=DXG, files=files)


def _is_tegra(host: Host) -> bool:
    texts = (_text(host, FAMILY), _text(host, COMPATIBLE))
    return host.exists(RELEASE) or any("tegra" in (text or "").lower() for text in texts)


def _tegra(host: Host, settings: NvidiaSection) -> Platform:
    entries, problem = _read_csv(host, settings.driver_root)
    nodes = tuple(dict.fromkeys(p for kind, p in entries if kind == "dev" and host.exists(p)))
    if not any(_is_like(node, _GPU_NODES) for node in nodes):
        nodes = tuple(path for pattern in _TEGRA_NODES for path in _matching(host, pattern))
    found = _L4T.search(_text(host, RELEASE) or "")
    return Platform(
        name=TEGRA,
        product=_text(host, MODEL) or "NVIDIA Tegra",
        nodes=nodes if any(_is_like(node, _GPU_NODES) for node in nodes) else (),
        wanted=" or ".join(_GPU_NODES),
        files=_tegra_files(host, settings, entries, problem),
        release=".".join(found.groups()) if found else None,
    )


def _tegra_files(
    host: Host, settings: NvidiaSection, entries: Sequence[tuple[str, str]], problem: str | None
) -> DriverFiles:
    """The files that L4T lists for containers, each where its link leads."""
    tree, root = DriverTree(host, settings.driver_root), settings.driver_root.rstrip("/")
    real = {p: r for kind, p in entries if kind != "dev" and (r := tree.real(f"{root}{p}"))}
    libraries = [path for path in real if path.rpartition("/")[2].startswith("libcuda.so")]
    if not libraries:
        text = f"no libcuda among the files that {CSV_FOLDER} lists for containers"
        return DriverFiles(edits=ContainerEdits(), problem=problem or text)
    folders = tuple(dict.fromkeys(path.rpartition("/")[0] for path in libraries))
    hooks, refused = cache_hooks(host, settings.cdi_hook_path, folders)
    mounts = tuple(Mount(path=path, host_path=real[path]) for path in sorted(real))
    edits = ContainerEdits(mounts=mounts, hooks=hooks)
    return DriverFiles(edits=edits, problem=None, hook_problem=refused)


def _read_csv(host: Host, root: str) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """Kind and path of each line, and why there are none; of the driver's root first, then /."""
    below = root.rstrip("/")
    folder = next((f for r in (below, "") if _names(host, f := f"{r}{CSV_FOLDER}")), CSV_FOLDER)
    entries: list[tuple[str, str]] = []
    for name in CSV_FILES:
        path = f"{folder}/{name}"
        if not host.exists(path):
            continue
        if problem := host.untrusted(path):
            return (), f"{path} is not used: {problem}"
        entries += parse_csv(_text(host, path, MAX_CSV_BYTES) or "")
    return tuple(entries), None if entries else f"{folder} has none of {', '.join(CSV_FILES)}"


def parse_csv(text: str) -> Iterator[tuple[str, str]]:
    """Kind and path of each usable line: absolute, and mounts never below /dev, /proc and /sys."""
    for line in text.splitlines()[:MAX_LINES]:
        found = _LINE.fullmatch(line)
        if found is None or ".." in found[2].split("/") or not found[2].isprintable():
            continue
        kind, path = found[1], found[2].rstrip("/")
        if path.startswith("/dev/") if kind == "dev" else not _is_below(path, _NEVER_MOUNTED):
            yield kind, path


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return not path or f"{path}/".startswith(tuple(folders))


def _is_like(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _matching(host: Host, pattern: str) -> Iterator[str]:
    """The paths like a pattern, folder by folder."""
    paths = [""]
    for part in pattern.split("/")[1:]:
        paths = [
            f"{path}/{name}"
            for path in paths
            for name in (_names(host, path or "/") if "*" in part else (part,))
            if fnmatchcase(name, part)
        ]
    yield from (path for path in paths if host.exists(path))


def _names(host: Host, folder: str) -> tuple[str, ...]:
    try:
        return host.read_names(folder)
    except VendorError:
        return ()


def _text(host: Host, path: str, size: int = 4096) -> str | None:
    """A file's text without the zeros that end strings of a device tree."""
    try:
        content = host.read_bytes(path, size)
    except VendorError:
        return None
    text = (content or b"").decode("utf-8", "replace").replace("\0", " ").strip()
    return text or None
