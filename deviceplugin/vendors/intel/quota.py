"""How much local memory a virtual function has: each generation of the kernel's interface."""

from collections.abc import Callable

from deviceplugin.vendors.intel.found import Board
from deviceplugin.vendors.intel.gpu import IntelGpu
from deviceplugin.vendors.intel.memory import Memory, debugfs_path
from deviceplugin.vendors.intel.reader import Reader

_I915_TREES = ("iov", "prelim_iov")


def read_quota(reader: Reader, gpu: IntelGpu, board: Board) -> Memory | None:
    """The memory of `gpu`, a virtual function of `board`.

    None for integrated GPUs and where no source has it. A quota of zero means that the driver
    shares evenly, so then it is total / number of functions. The number in the kernel's files
    counts from 1, that of the `virtfn` links from 0.
    """
    owner = board.gpu
    if owner.integrated:
        return None
    number = owner.virtual.index(gpu.address) + 1
    sources: tuple[tuple[str, Callable[[Reader, IntelGpu, int], int | None]], ...] = (
        ("sriov_admin", _read_sriov_admin),
        ("debugfs", _read_debugfs),
        ("iov", _read_i915),
    )
    for source, read in sources:
        if size := read(reader, owner, number):
            return Memory(bytes=size, source=source)
    if size := reader.read_query(gpu.driver, gpu.drm.card):
        return Memory(bytes=size, source="ioctl")
    return _even_share(reader, owner, board.memory)


def _read_sriov_admin(reader: Reader, owner: IntelGpu, number: int) -> int | None:
    """xe of Linux 7.0 and newer (Documentation/ABI/testing/sysfs-driver-intel-xe-sriov)."""
    return reader.read_positive(f"{owner.path}/sriov_admin/vf{number}/profile/vram_quota")


def _read_debugfs(reader: Reader, owner: IntelGpu, number: int) -> int | None:
    """xe before that: `sriov/vf<n>/tile<K>` since 6.18, `gt<K>/vf<n>` in older kernels."""
    quiet, path = reader.quiet(), debugfs_path(reader, owner)
    if path is None:
        return None
    base = f"{path}/sriov/vf{number}"
    tiles = [f"{base}/{tile}/vram_quota" for tile in quiet.read_numbered(base, "tile")]
    if tiles:
        return quiet.read_sum(tiles)
    gts = [f"{path}/{gt}/vf{number}/lmem_quota" for gt in quiet.read_numbered(path, "gt")]
    return quiet.read_sum([file for file in gts if quiet.host.exists(file)])  # not media GTs


def _read_i915(reader: Reader, owner: IntelGpu, number: int) -> int | None:
    """i915 of the LTS and data centre backports: one `gt` or several `gt<K>`, to be summed."""
    if owner.drm_path is None:
        return None
    for tree in _I915_TREES:
        base = f"{owner.drm_path}/{tree}/vf{number}"
        gts = reader.read_numbered(base, "gt")
        single = reader.read_positive(f"{base}/gt/lmem_quota")
        several = [f"{base}/{gt}/lmem_quota" for gt in gts]
        present = [file for file in several if reader.host.exists(file)]
        if size := single or reader.read_sum(present):
            return size
    return None


def _even_share(reader: Reader, owner: IntelGpu, total: Memory | None) -> Memory | None:
    count = owner.enabled_virtual or len(owner.virtual)
    if total is None or not count:
        return None
    free = total.bytes - _read_spare(reader.quiet(), owner)
    return Memory(bytes=free // count, source=f"share of {total.source}") if free > 0 else None


def _read_spare(quiet: Reader, owner: IntelGpu) -> int:
    """What the physical function keeps for itself; in debugfs only, mostly unknown."""
    path = debugfs_path(quiet, owner)
    if path is None:
        return 0
    base = f"{path}/sriov/pf"
    tiles = [f"{base}/{tile}/vram_spare" for tile in quiet.read_numbered(base, "tile")]
    return quiet.read_sum(tiles) or quiet.read_positive(f"{path}/gt0/pf/lmem_spare") or 0
