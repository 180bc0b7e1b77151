"""One PCI function bound to amdgpu: what its own sysfs files say (Documentation/gpu/amdgpu)."""

import re

from msgspec import Struct

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm import DrmNodes, read_drm_nodes
from deviceplugin.host.kfd import KFD_NODE
from deviceplugin.host.pci import PciFunction
from deviceplugin.model import DeviceID
from deviceplugin.vendors.amd.models import product_of
from deviceplugin.vendors.amd.settings import AmdSection

AMDGPU = "amdgpu"
# The driver of physical functions that have virtual ones (amd/MxGPU-Virtualization).
GIM = "gim"
# How many partitions each compute mode makes; CPX makes one for each compute die.
PARTITION_COUNTS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
COMPUTE_MODES = frozenset({*PARTITION_COUNTS, "CPX"})
_ZERO = re.compile("(0x)?0+")
_UNIQUE_ID = re.compile(r"[0-9a-f]{1,16}")
_MEMORY_MODE = re.compile(r"NPS[1-9]")


class AmdGpu(Struct, frozen=True, kw_only=True):
    """A GPU under amdgpu; `compute_mode` is None where it cannot be partitioned, and where
    `mode_problem` says why the mode is not known (it reads UNKNOWN or fails while it is
    switched). `memory_problem` says why the memory is not; `shared_bytes` is the host's memory
    that the GPU may use besides (GTT)."""

    function: PciFunction
    nodes: DrmNodes
    unique_id: str | None = None
    product: str | None = None
    memory_bytes: int | None = None
    memory_problem: str | None = None
    shared_bytes: int | None = None
    compute_mode: str | None = None
    mode_problem: str | None = None
    memory_mode: str | None = None

    @property
    def is_partitioned(self) -> bool:
        """Whether its mode makes partitions of it."""
        return self.compute_mode not in (None, "SPX")

    @property
    def id(self) -> DeviceID:
        """`amd-` and the unique id burnt into the chip; the PCI address where there is none."""
        return DeviceID(f"amd-{self.unique_id}" if self.unique_id else self.function.address)


def read_gpu(host: Host, function: PciFunction) -> AmdGpu:
    """The GPU behind a PCI function.

    Raises DiscoveryError, naming the file, where identity or nodes cannot be read.
    """
    path = function.path
    memory, memory_problem = _read_bytes(host, f"{path}/mem_info_vram_total")
    mode, problem = _read_compute_mode(host, path)
    return AmdGpu(
        function=function,
        nodes=read_drm_nodes(host, path),
        unique_id=_read_unique_id(host, path),
        product=read_product(host, function),
        memory_bytes=memory,
        memory_problem=memory_problem,
        shared_bytes=_read_bytes(host, f"{path}/mem_info_gtt_total")[0],
        compute_mode=mode,
        mode_problem=problem,
        memory_mode=_read_memory_mode(host, path),
    )


def read_render_minor(host: Host, function: PciFunction) -> int | None:
    """The minor of a function's own render node, None where it has none or it cannot be read."""
    try:
        return read_drm_nodes(host, function.path).render_minor
    except DiscoveryError:
        return None


def _read_bytes(host: Host, file: str) -> tuple[int | None, str | None]:
    """A size and why it is not known; no reason where there is no such file."""
    try:
        size = host.read_int(file)
    except DiscoveryError as error:
        return None, str(error)
    if size is not None and size < 0:
        return None, f"{file}: {size} is not a size"
    return size or None, None


def _read_unique_id(host: Host, path: str) -> str | None:
    """None only for a GPU that has no such file, or zero in it. With one that vanishes or cannot be
    understood for a while, the GPU would be listed a second time, under its address."""
    text = host.read_text(f"{path}/unique_id")
    if text is None:
        names = host.read_names(path)
        if not names or "unique_id" in names:
            raise DiscoveryError(f"{path}/unique_id: it vanished while it was read")
        return None
    unique_id = parse_unique_id(text)
    if unique_id is None and not _ZERO.fullmatch(text):
        raise DiscoveryError(f"{path}/unique_id: {text[:40]!r} is not an id")
    return unique_id


def parse_unique_id(text: str | None) -> str | None:
    """16 lower-case hexadecimal digits, None for no id, an id of zero or another text."""
    digits = (text or "").strip().lower().removeprefix("0x")
    if not _UNIQUE_ID.fullmatch(digits) or int(digits, 16) == 0:
        return None
    return digits.zfill(16)


def read_product(host: Host, function: PciFunction) -> str | None:
    """The board's own name (server cards have one), else the model's name by its PCI id."""
    try:
        name = host.read_line(f"{function.path}/product_name")
    except DiscoveryError:
        name = None
    return name or product_of(function.device_id)


def _read_compute_mode(host: Host, path: str) -> tuple[str | None, str | None]:
    """The mode and why it is not known. GPUs that cannot be partitioned lack the file, or refuse
    to be read and list no available mode."""
    file = f"{path}/current_compute_partition"
    try:
        mode = host.read_text(file) or None
    except DiscoveryError as error:
        return None, str(error) if _can_be_partitioned(host, path) else None
    if mode in COMPUTE_MODES or mode is None:
        return mode, None
    return None, f"{file}: {mode[:40]!r} is not a partition mode"


def _can_be_partitioned(host: Host, path: str) -> bool:
    try:
        return bool(host.read_text(f"{path}/available_compute_partition"))
    except DiscoveryError:
        return False


def _read_memory_mode(host: Host, path: str) -> str | None:
    try:
        text = host.read_text(f"{path}/current_memory_partition") or ""
    except DiscoveryError:
        return None
    return text if _MEMORY_MODE.fullmatch(text) else None


def container_nodes(host: Host, drm: DrmNodes, section: AmdSection) -> tuple[str, ...]:
    """What a container needs for a GPU: KFD where the node has it, the render node, and the card
    node where it is asked for."""
    kfd = (KFD_NODE,) if host.exists(KFD_NODE) else ()
    own = (drm.render, drm.card if section.card_nodes else None)
    return (*kfd, *(path for path in own if path and host.exists(path)))


def missing_node(host: Host, drm: DrmNodes, *, in_kfd: bool) -> str | None:
    """The node that a container would need and that is not there, None where all is well.

    A GPU that KFD has needs KFD's own node for ROCm (`in_kfd`).
    """
    if drm.render is None:
        return "/dev/dri/renderD*"
    needed = (drm.render, KFD_NODE) if in_kfd else (drm.render,)
    return next((node for node in needed if not host.exists(node)), None)
