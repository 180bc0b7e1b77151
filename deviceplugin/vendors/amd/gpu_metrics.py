"""amdgpu's binary file gpu_metrics, formats 1.1 to 1.8; pure.

drivers/gpu/drm/amd/include/kgd_pp_interface.h. The revisions are no extensions of each other: each
has offsets of its own, and a number of all ones is one that the GPU does not have. Energy counts
2^-16 J since format 1.4. PCIe bandwidth is left out: the kernel says GB/s of it, AMD's library
Mbit/s, and the number does not tell which.
"""

import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

_HEADER = struct.Struct("<HBB")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_JOULES = 2.0**-16
_ENGINES = 8  # of a partition, at most
# Where a revision has energy, by the size of its table: of one with another size only the first 16
# bytes are read, which are the same in all of them. 1.5 has 16 or 32 JPEG engines before it, 1.6 of
# 312 bytes is of a kernel before its release.
_ENERGY = {
    4: {288: 24},
    5: {328: 56, 360: 88},
    6: {1664: 16},
    7: {2208: 24},
    8: {3360: 24},
}
# Partitions: offset of the first, size of each.
_PARTITIONS = {6: (312, 168), 7: (344, 232), 8: (344, 376)}
_THROTTLE_1_3 = 112
# Where the number of replays is behind energy, by revision.
_REPLAYS = {4: 64, 5: 64, 6: 88, 7: 88, 8: 88}
# Behind energy and the clock, since 1.6: rounds of the firmware, then those in which it held the
# clocks down for a reason.
_ROUNDS = 16
_RESIDENCIES = ("prochot", "power_cap", "thermal_socket", "thermal_vr", "thermal_memory")
# Bits of indep_throttle_status (amdgpu_smu.h, SMU_THROTTLER_*).
_REASONS = {"power_cap": 0xFFFF, "current": 0xFFFF << 16, "thermal": 0xFFFF << 32}


class GpuMetrics(Struct, frozen=True, kw_only=True):
    """What the file says; ratios are 0 to 1, None is unknown."""

    compute: float | None = None
    memory: float | None = None
    media: float | None = None
    hotspot_c: float | None = None
    memory_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    throttled: Mapping[str, bool] = field(default_factory=dict)
    partitions: tuple[float | None, ...] = ()
    pcie_replays: int | None = None
    rounds: int | None = None
    residencies: Mapping[str, int] = field(default_factory=dict)


def parse_gpu_metrics(content: bytes) -> GpuMetrics | None:
    """The file's content; None for a format that is not known, or a content that is cut short."""
    if len(content) < _HEADER.size:
        return None
    size, form, revision = _HEADER.unpack_from(content)
    if form != 1 or size > len(content):
        return None
    if revision in (1, 2, 3):
        return _older(content, revision)
    return _newer(content, revision) if revision in _ENERGY else None


def _older(content: bytes, revision: int) -> GpuMetrics | None:
    """Navi and Instinct up to MI200."""
    if len(content) < 24:
        return None
    status = _number(_U64, content, _THROTTLE_1_3) if revision == 3 else None
    return GpuMetrics(
        compute=_percent(content, 16),
        memory=_percent(content, 18),
        media=_percent(content, 20),
        hotspot_c=_number(_U16, content, 6),
        memory_c=_number(_U16, content, 8),
        power_w=_number(_U16, content, 22),
        throttled={} if status is None else {k: bool(status & m) for k, m in _REASONS.items()},
    )


def _newer(content: bytes, revision: int) -> GpuMetrics | None:
    """Instinct from MI300 on."""
    if len(content) < 16:
        return None
    offset = _ENERGY[revision].get(_HEADER.unpack_from(content)[0])
    if offset is None:
        return _same_in_all(content)
    energy = _number(_U64, content, offset)
    return replace(
        _same_in_all(content),
        energy_j=None if energy is None else energy * _JOULES,
        partitions=tuple(_partitions(content, revision)),
        pcie_replays=_number(_U64, content, offset + _REPLAYS[revision]),
        rounds=_number(_U32, content, offset + _ROUNDS) if revision >= 6 else None,
        residencies=_residencies(content, offset + _ROUNDS) if revision >= 6 else {},
    )


def _residencies(content: bytes, offset: int) -> Mapping[str, int]:
    places = ((name, offset + 4 * n) for n, name in enumerate(_RESIDENCIES, 1))
    found = {name: _number(_U32, content, place) for name, place in places}
    return {name: number for name, number in found.items() if number is not None}


def _same_in_all(content: bytes) -> GpuMetrics:
    return GpuMetrics(
        compute=_percent(content, 12),
        memory=_percent(content, 14),
        hotspot_c=_number(_U16, content, 4),
        memory_c=_number(_U16, content, 6),
        power_w=_number(_U16, content, 10),
    )


def _partitions(content: bytes, revision: int) -> Iterator[float | None]:
    """How busy each partition is: the mean of its engines."""
    start, size = _PARTITIONS.get(revision, (0, 0))
    for number in range(8 if size else 0):
        engines = (_number(_U32, content, start + number * size + 4 * e) for e in range(_ENGINES))
        busy = [value for value in engines if value is not None]
        yield sum(busy) / len(busy) / 100 if busy else None


def _percent(content: bytes, offset: int) -> float | None:
    value = _number(_U16, content, offset)
    return None if value is None else value / 100


def _number(form: struct.Struct, content: bytes, offset: int) -> int | None:
    if len(content) < offset + form.size:
        return None
    value = int(form.unpack_from(content, offset)[0])
    return None if value == (1 << 8 * form.size) - 1 else value
