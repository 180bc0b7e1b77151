"""A simulated node with Intel GPUs: the files that i915, xe and vfio-pci show, for tests and demo.

Paths, values and layouts follow docs/vendors/intel.md; nothing here is measured on hardware.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from deviceplugin.testing.tree import write_tree

Quotas = Literal["sriov_admin", "debugfs", "debugfs-gt", "iov", "prelim_iov", "none"]
_PCI = "/sys/bus/pci/devices"
_TREE = "/sys/devices/pci0000:00"


class IntelGpu(Struct, frozen=True, kw_only=True):
    """A GPU of a simulated node; what its virtual functions get counts on from its own numbers.

    `card` and `render` are its nodes' numbers, `group` the IOMMU group before the first function's.

    `quotas` is the generation of the kernel's interface for the memory of virtual functions.
    """

    address: str
    device_id: int
    driver: str | None = "xe"
    class_id: int = 0x030000
    numa_node: int = 0
    card: int = 1
    render: int = 128
    group: int = 36
    tiles: int = 1
    total_vfs: int = 0
    bar_bytes: int | None = None
    lmem_bytes: int | None = None
    quotas: Quotas = "sriov_admin"


B60 = IntelGpu(address="0000:04:00.0", device_id=0xE211, total_vfs=12, bar_bytes=32 << 30)
FLEX_170 = IntelGpu(
    address="0000:3a:00.0",
    device_id=0x56C0,
    driver="i915",
    class_id=0x038000,
    numa_node=1,
    total_vfs=16,
    lmem_bytes=16 << 30,
    quotas="iov",
)
MAX_1550 = IntelGpu(
    address="0000:9a:00.0",
    device_id=0x0BD5,
    driver="i915",
    class_id=0x038000,
    numa_node=1,
    tiles=2,
    total_vfs=63,
    lmem_bytes=128 << 30,
    quotas="prelim_iov",
)
INTEGRATED = IntelGpu(
    address="0000:00:02.0",
    device_id=0xA7A0,
    driver="i915",
    numa_node=-1,
    card=0,
    total_vfs=7,
    quotas="none",
)


def write_intel_node(root: Path, *gpus: IntelGpu) -> None:
    """Make the files of `gpus`, none of them divided, below `root`.

    Raises ValueError for two GPUs with the same nodes; `msgspec.structs.replace` gives others.
    """
    for numbers in ([gpu.card for gpu in gpus], [gpu.render for gpu in gpus]):
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"several GPUs have the same card or render number: {numbers}")
    for gpu in gpus:
        write_tree(root, intel_gpu_tree(gpu))


def set_vfs(
    root: Path,
    gpu: IntelGpu,
    count: int,
    quota_bytes: int | Sequence[int] = 0,
    drivers: Sequence[str | None] = (),
) -> None:
    """Divide `gpu` into `count` virtual functions, or make it whole again with 0.

    `quota_bytes` is one quota for all or one each, in sum over the tiles (0: left to the driver);
    `drivers` are theirs in order, the GPU's own where it ends.
    """
    _remove_vfs(root, gpu)
    write_tree(root, vfs_tree(gpu, count, quota_bytes, drivers))


def vfs_tree(
    gpu: IntelGpu,
    count: int,
    quota_bytes: int | Sequence[int] = 0,
    drivers: Sequence[str | None] = (),
) -> str:
    """What `set_vfs` adds to the tree of an undivided GPU."""
    quotas = [quota_bytes] * count if isinstance(quota_bytes, int) else list(quota_bytes)
    bound = [*drivers, *[gpu.driver] * count][:count]
    lines = [f"{_pci(gpu)}/sriov_numvfs = {count}"]
    for number, (quota, driver) in enumerate(zip(quotas, bound, strict=True), 1):
        lines += _vf_lines(gpu, number, driver)
        lines += _quota_lines(gpu, number, quota)
    for number in range(count + 1, gpu.total_vfs + 1):
        lines += _quota_lines(gpu, number, 0)
    return "\n".join(lines) + "\n"


def vf_address(gpu: IntelGpu, number: int) -> str:
    """The PCI address of a virtual function: the functions that follow its GPU on the bus."""
    base, _, slot = gpu.address.rpartition(":")
    device, _, function = slot.partition(".")
    position = int(device, 16) * 8 + int(function) + number
    return f"{base}:{position // 8:02x}.{position % 8}"


def iommu_group(gpu: IntelGpu, number: int) -> int:
    """The IOMMU group that a virtual function gets."""
    return gpu.group + number


def intel_gpu_tree(gpu: IntelGpu) -> str:
    """The tree of one undivided GPU."""
    lines = [
        *_function_lines(gpu, gpu.address, gpu.driver),
        *_node_lines(gpu, 0),
        *_memory_lines(gpu),
        *(f"{_pci(gpu)}/tile{k}/gt0/freq0/act_freq = 2400" for k in _tiles(gpu, "xe")),
        *(f"{_drm(gpu)}/gt/gt{k}/rps_act_freq_mhz = 1300" for k in _tiles(gpu, "i915")),
    ]
    if gpu.total_vfs:
        values = {"totalvfs": gpu.total_vfs, "numvfs": 0, "drivers_autoprobe": 1}
        lines += [f"{_pci(gpu)}/sriov_{name} = {value}" for name, value in values.items()]
        lines += _group_lines(gpu, 0)
        for number in range(1, gpu.total_vfs + 1):
            lines += _quota_lines(gpu, number, 0)
    return "\n".join(lines) + "\n"


def _pci(gpu: IntelGpu) -> str:
    return f"{_TREE}/{gpu.address}"


def _drm(gpu: IntelGpu) -> str:
    return f"{_pci(gpu)}/drm/card{gpu.card}"


def _tiles(gpu: IntelGpu, driver: str) -> range:
    return range(gpu.tiles if gpu.driver == driver else 0)


def _function_lines(gpu: IntelGpu, address: str, driver: str | None) -> Iterator[str]:
    path = f"{_TREE}/{address}"
    yield f"{_PCI}/{address} -> ../../../devices/pci0000:00/{address}"
    yield f"{path}/vendor = 0x8086"
    yield f"{path}/device = 0x{gpu.device_id:04x}"
    yield f"{path}/class = 0x{gpu.class_id:06x}"
    yield f"{path}/numa_node = {gpu.numa_node}"
    yield from _driver_lines(address, driver)


def _driver_lines(address: str, driver: str | None) -> Iterator[str]:
    path = f"{_TREE}/{address}"
    if driver is not None:
        yield f"/sys/bus/pci/drivers/{driver}/{address} -> ../../../../devices/pci0000:00/{address}"
        yield f"{path}/driver -> ../../../bus/pci/drivers/{driver}"


def _node_lines(gpu: IntelGpu, number: int) -> Iterator[str]:
    """The nodes of virtual function `number`, of the GPU itself for 0."""
    address = vf_address(gpu, number)
    card, render = gpu.card + number, gpu.render + number
    for kind, name, minor in (
        ("card", f"card{card}", card),
        ("render", f"renderD{render}", render),
    ):
        yield f"{_TREE}/{address}/drm/{name}/dev = 226:{minor}"
        yield f"/sys/class/drm/{name} -> ../../devices/pci0000:00/{address}/drm/{name}"
        yield f"/dev/dri/{name} c 226:{minor}"
        yield f"/dev/dri/by-path/pci-{address}-{kind} -> ../{name}"


def _memory_lines(gpu: IntelGpu) -> Iterator[str]:
    if gpu.lmem_bytes is not None:
        yield f"{_drm(gpu)}/lmem_total_bytes = {gpu.lmem_bytes}"
    if gpu.bar_bytes is not None:
        unused = f"0x{0:016x} 0x{0:016x} 0x{0:016x}"
        start = 0x384000000000
        bar = f"0x{start:016x} 0x{start + gpu.bar_bytes - 1:016x} 0x000000000014220c"
        lines = [unused, unused, bar, *[unused] * 10]
        yield f"{_pci(gpu)}/resource = " + "\\n".join(lines)


def _quota_lines(gpu: IntelGpu, number: int, quota: int) -> Iterator[str]:
    """A virtual function's quota where the kernel's generation keeps it, an equal part a tile."""
    part = quota // gpu.tiles
    debugfs = f"/sys/kernel/debug/dri/{gpu.address}"
    if gpu.quotas == "sriov_admin":
        profile = f"{_pci(gpu)}/sriov_admin/vf{number}/profile"
        yield f"{profile}/vram_quota = {quota}"
        yield f"{profile}/exec_quantum_ms = 0"
        yield f"{profile}/preempt_timeout_us = 0"
    for k in range(gpu.tiles):
        if gpu.quotas == "debugfs":
            yield f"{debugfs}/sriov/vf{number}/tile{k}/vram_quota = {part}"
        elif gpu.quotas == "debugfs-gt":
            yield f"{debugfs}/gt{k}/vf{number}/lmem_quota = {part}"
        elif gpu.quotas in ("iov", "prelim_iov"):
            gt = "gt" if gpu.tiles == 1 else f"gt{k}"
            yield f"{_drm(gpu)}/{gpu.quotas}/vf{number}/{gt}/lmem_quota = {part}"


def _group_lines(gpu: IntelGpu, number: int) -> Iterator[str]:
    address, group = vf_address(gpu, number), iommu_group(gpu, number)
    yield f"{_TREE}/{address}/iommu_group -> ../../../kernel/iommu_groups/{group}"
    members = f"/sys/kernel/iommu_groups/{group}/devices"
    yield f"{members}/{address} -> ../../../../devices/pci0000:00/{address}"


def _vf_lines(gpu: IntelGpu, number: int, driver: str | None) -> Iterator[str]:
    address, group = vf_address(gpu, number), iommu_group(gpu, number)
    path = f"{_TREE}/{address}"
    # In the kernel's order: the function, then what it belongs to, and only then a driver.
    yield from _function_lines(gpu, address, None)
    yield f"{_pci(gpu)}/virtfn{number - 1} -> ../{address}"
    yield f"{path}/physfn -> ../{gpu.address}"
    yield f"{path}/driver_override = (null)"
    yield from _driver_lines(address, driver)
    yield from _group_lines(gpu, number)
    if driver in ("xe", "i915"):
        yield from _node_lines(gpu, number)
    elif driver is not None:
        yield f"{path}/vfio-dev/vfio{number}/"
        yield f"/dev/vfio/{group} c 240:{group}"
        yield "/dev/vfio/vfio c 10:196"


def _remove_vfs(root: Path, gpu: IntelGpu) -> None:
    for number in range(1, gpu.total_vfs + 1):
        for path in _vf_paths(root, gpu, number):
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)


def _vf_paths(root: Path, gpu: IntelGpu, number: int) -> list[Path]:
    """Everything that `_vf_lines` makes; the links to a function before the function."""
    address, group = vf_address(gpu, number), iommu_group(gpu, number)
    card, render = f"card{gpu.card + number}", f"renderD{gpu.render + number}"
    names = [
        f"{_pci(gpu)}/virtfn{number - 1}",
        f"{_PCI}/{address}",
        *(f"/sys/class/drm/{name}" for name in (card, render)),
        *(f"/dev/dri/{name}" for name in (card, render)),
        *(f"/dev/dri/by-path/pci-{address}-{kind}" for kind in ("card", "render")),
        f"/dev/vfio/{group}",
        f"/sys/kernel/iommu_groups/{group}",
        f"{_TREE}/{address}",
    ]
    links = (root / "sys/bus/pci/drivers").glob(f"*/{address}")
    return [*links, *(root / name.lstrip("/") for name in names)]
