"""The local memory of a whole GPU: the sources, the best first."""

import re
from collections.abc import Callable

from msgspec import Struct

from deviceplugin.host.modules import DRM_DEBUGFS
from deviceplugin.host.numbers import parse_hexadecimal
from deviceplugin.vendors.intel.gpu import IntelGpu
from deviceplugin.vendors.intel.reader import Reader

# The driver's own answer about this very function; BAR and table only know the board.
EXACT_SOURCES = frozenset({"sysfs", "ioctl", "debugfs"})
_BAR2_LINE = 2
# A BAR that firmware did not resize shows a window of 256 MiB, whatever the memory is, and the BAR
# of an integrated GPU, or of its virtual function in a guest, is an aperture of up to 1 GiB. No
# board has less memory of its own than this.
_LEAST_BAR_BYTES = 2 << 30
# Two functions that share a board have half of it each; of a whole board ECC takes an eighth and
# the driver a few percent.
_WHOLE_SHARE = 0.7
_VRAM_SIZE = re.compile(r"^\s*size:\s*([0-9]{1,18})\s*$", re.ASCII | re.MULTILINE)


class Memory(Struct, frozen=True, kw_only=True):
    """A size in bytes and where it was learnt."""

    bytes: int
    source: str


def read_local_memory(reader: Reader, gpu: IntelGpu) -> Memory | None:
    """The local memory of a whole GPU; None for integrated GPUs and where no source has it.

    Raises nothing: a source that cannot be read is noted in `reader` and the next one asked.
    """
    if gpu.integrated:
        return None
    sources: tuple[tuple[str, Callable[[Reader, IntelGpu], int | None]], ...] = (
        ("sysfs", _read_sysfs),
        ("ioctl", _read_ioctl),
        ("debugfs", _read_debugfs),
    )
    for source, read in sources:
        if size := read(reader, gpu):
            return Memory(bytes=size, source=source)
    return None if gpu.may_be_guest else _board_memory(reader, gpu)


def is_slice(gpu: IntelGpu, memory: Memory | None) -> bool:
    """Whether a function without SR-IOV files is a virtual function inside a virtual machine.

    The PCI id is that of the whole board; a size clearly below every such board's
    means a slice.
    """
    if not (gpu.may_be_guest and gpu.product and memory and is_exact(memory)):
        return False
    return memory.bytes < (gpu.product.smallest_bytes or 0) * _WHOLE_SHARE


def is_exact(memory: Memory | None) -> bool:
    """Whether the driver itself reported the size, of this very function."""
    return memory is not None and memory.source in EXACT_SOURCES


def parse_bar_bytes(text: str, line: int) -> int | None:
    """The size of a region in a PCI `resource` file, None where it is unused or malformed."""
    lines = text.splitlines()
    words = lines[line].split()[:2] if line < len(lines) else []
    numbers = [number for word in words if (number := parse_hexadecimal(word)) is not None]
    if len(numbers) < 2:
        return None
    start, end = numbers
    return end - start + 1 if end > start else None


def parse_vram_size(text: str) -> int | None:
    """The `size:` of a memory manager's debugfs file in bytes (TTM, drivers/gpu/drm/ttm)."""
    match = _VRAM_SIZE.search(text)
    return int(match[1]) or None if match else None


def debugfs_path(reader: Reader, gpu: IntelGpu) -> str | None:
    """The GPU's directory in debugfs: by address, on old kernels by the card's number."""
    names = [gpu.address, *([gpu.card.removeprefix("card")] if gpu.card else [])]
    return next((p for n in names if reader.host.exists(p := f"{DRM_DEBUGFS}/{n}")), None)


def _read_sysfs(reader: Reader, gpu: IntelGpu) -> int | None:
    tiles = reader.read_numbered(gpu.path, "tile")
    if early := reader.read_sum([f"{gpu.path}/{t}/physical_vram_size_bytes" for t in tiles]):
        return early
    if gpu.drm_path is None:
        return None
    total = reader.read_positive(f"{gpu.drm_path}/lmem_total_bytes")
    return _checked_total(gpu, total, read_tiles(reader, gpu) or 1) if total else None


def _checked_total(gpu: IntelGpu, total: int, tiles: int) -> int:
    """`lmem_total_bytes` for the whole GPU: Intel's own readers disagree whether it is one
    tile's, so the product's nominal size decides."""
    nominal = gpu.product.largest_bytes if gpu.product else None
    if nominal is None:
        return total
    return min(total, total * tiles, key=lambda size: abs(size - nominal))


def read_tiles(reader: Reader, gpu: IntelGpu) -> int | None:
    """How many tiles a GPU has; i915 shows one directory per GT, so media GTs must not count."""
    if tiles := reader.read_numbered(gpu.path, "tile"):
        return len(tiles)
    gts = reader.read_numbered(f"{gpu.drm_path}/gt", "gt") if gpu.drm_path else ()
    return (1 if gpu.integrated else len(gts)) if gts else None


def _read_ioctl(reader: Reader, gpu: IntelGpu) -> int | None:
    return reader.read_query(gpu.driver, gpu.drm.card)


def _read_debugfs(reader: Reader, gpu: IntelGpu) -> int | None:
    quiet, path = reader.quiet(), debugfs_path(reader, gpu)
    if path is None:
        return None
    tiles = quiet.read_numbered(path, "tile")
    files = [f"{path}/{tile}/vram_mm" for tile in tiles] or [f"{path}/vram0_mm"]
    sizes = [parse_vram_size(quiet.read_text(file) or "") for file in files]
    known = [size for size in sizes if size]
    return sum(known) if known and len(known) == len(sizes) else None


def _board_memory(reader: Reader, gpu: IntelGpu) -> Memory | None:
    """BAR and table check each other: a BAR is rounded up to a power of two, the table holds the
    largest board of an id; the smaller of the two is nearer the truth."""
    text = reader.read_text(f"{gpu.path}/resource")
    bar = parse_bar_bytes(text, _BAR2_LINE) if text else None
    table = gpu.product.largest_bytes if gpu.product else None
    known = [Memory(bytes=table, source="table")] if table else []
    known += [Memory(bytes=bar, source="bar")] if bar and bar >= _LEAST_BAR_BYTES else []
    return min(known, key=lambda memory: memory.bytes, default=None)
