"""The data-centre cards tests speak of: memory, engines and the MIG profiles each offers."""

from typing import Any

from msgspec import Struct

from tests.fakes.nvml.model import CiProfile, EccCounter, GiProfile, Gpu

# NVML index, driver id, slices, eighths of memory, suffix, instances, placement size and starts
_SHAPES = (
    (0, 19, 1, 1, "", 7, 1, (0, 1, 2, 3, 4, 5, 6)),
    (1, 14, 2, 2, "", 3, 2, (0, 2, 4)),
    (2, 9, 3, 4, "", 2, 4, (4, 0)),
    (3, 5, 4, 4, "", 1, 4, (0,)),
    (4, 0, 7, 8, "", 1, 8, (0,)),
    (7, 20, 1, 1, "+me", 1, 1, (0, 1, 2, 3, 4, 5, 6)),
    (9, 15, 1, 2, "", 4, 2, (0, 2, 4, 6)),
)
# The A30 has four slices, and quarters of its memory.
_A30_SHAPES = (
    (0, 14, 1, 1, "", 4, 1, (0, 1, 2, 3)),
    (1, 5, 2, 2, "", 2, 2, (0, 2)),
    (3, 0, 4, 4, "", 1, 4, (0,)),
    (7, 21, 1, 1, "+me", 1, 1, (0, 1, 2, 3)),
    (8, 6, 2, 2, "+me", 1, 2, (0, 2)),
)
_CI_SLICES = {1: (1,), 2: (1, 2), 3: (1, 2, 3), 4: (1, 2, 4), 7: (1, 2, 3, 4, 7)}
_CI_INDEX = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4}
_CI_INDEX_ME = 7


class _Card(Struct, frozen=True, kw_only=True):
    """Memory sizes and names by eighths; multiprocessors and decoders by NVML profile index."""

    memory_mb: dict[int, int]
    gigabytes: dict[int, int]
    sms: dict[int, int]
    decoders: dict[int, int]
    jpeg_as_decoders: bool
    shapes: tuple[tuple[int, int, int, int, str, int, int, tuple[int, ...]], ...] = _SHAPES


_AMPERE_SMS = {0: 14, 1: 28, 2: 42, 3: 56, 4: 98, 7: 14, 9: 14}
_AMPERE_DECODERS = {0: 0, 1: 1, 2: 2, 3: 2, 4: 5, 7: 1, 9: 1}
_HOPPER_SMS = {0: 16, 1: 32, 2: 60, 3: 64, 4: 132, 7: 16, 9: 26}
_HOPPER_DECODERS = {0: 1, 1: 2, 2: 3, 3: 4, 4: 7, 7: 1, 9: 1}
_BLACKWELL_SMS = {0: 18, 1: 36, 2: 70, 3: 72, 4: 148, 7: 18, 9: 30}

_A100_40GB = _Card(
    memory_mb={1: 4864, 2: 9856, 4: 20096, 8: 40192},
    gigabytes={1: 5, 2: 10, 4: 20, 8: 40},
    sms=_AMPERE_SMS,
    decoders=_AMPERE_DECODERS,
    jpeg_as_decoders=False,
)
_A100_80GB = _Card(
    memory_mb={1: 9856, 2: 19968, 4: 40448, 8: 80896},
    gigabytes={1: 10, 2: 20, 4: 40, 8: 80},
    sms=_AMPERE_SMS,
    decoders=_AMPERE_DECODERS,
    jpeg_as_decoders=False,
)
_H100_80GB = _Card(
    memory_mb={1: 9984, 2: 20096, 4: 40448, 8: 81152},
    gigabytes={1: 10, 2: 20, 4: 40, 8: 80},
    sms=_HOPPER_SMS,
    decoders=_HOPPER_DECODERS,
    jpeg_as_decoders=True,
)
_H200 = _Card(
    memory_mb={1: 16384, 2: 33280, 4: 71168, 8: 142336},
    gigabytes={1: 18, 2: 35, 4: 71, 8: 141},
    sms=_HOPPER_SMS,
    decoders=_HOPPER_DECODERS,
    jpeg_as_decoders=True,
)
_B200 = _Card(
    memory_mb={1: 21632, 2: 44160, 4: 89600, 8: 181760},
    gigabytes={1: 23, 2: 45, 4: 90, 8: 180},
    sms=_BLACKWELL_SMS,
    decoders=_HOPPER_DECODERS,
    jpeg_as_decoders=True,
)
_A30 = _Card(
    memory_mb={1: 5836, 2: 11672, 4: 23344},
    gigabytes={1: 6, 2: 12, 4: 24},
    sms={0: 14, 1: 28, 3: 56, 7: 14, 8: 28},
    decoders={0: 1, 1: 2, 3: 4, 7: 1, 8: 2},
    jpeg_as_decoders=False,
    shapes=_A30_SHAPES,
)


def _gi_profiles(card: _Card) -> tuple[GiProfile, ...]:
    profiles = []
    for index, driver_id, slices, eighths, suffix, instances, size, starts in card.shapes:
        decoders, media = card.decoders[index], int(index in {4, 7})
        profile = GiProfile(
            index=index,
            id=driver_id,
            name=f"{slices}g.{card.gigabytes[eighths]}gb{suffix}",
            slices=slices,
            instances=instances,
            sms=card.sms[index],
            memory_mb=card.memory_mb[eighths],
            copy=slices,
            decoder=decoders,
            jpeg=decoders if card.jpeg_as_decoders else media,
            ofa=media,
            size=size,
            starts=starts,
        )
        profiles.append(profile)
    return tuple(profiles)


def _ci_profile(gi: GiProfile, slices: int) -> CiProfile:
    single_media = gi.slices == 1 and gi.name.endswith("+me")
    index = _CI_INDEX_ME if single_media else _CI_INDEX[slices]
    return CiProfile(
        gi_profile=gi.id,
        index=index,
        id=index,
        name=gi.name if slices == gi.slices else f"{slices}c.{gi.name}",
        slices=slices,
        instances=gi.slices // slices,
        sms=gi.sms // gi.slices * slices if slices < gi.slices else gi.sms,
        copy=gi.copy,
        decoder=gi.decoder,
        encoder=gi.encoder,
        jpeg=gi.jpeg,
        ofa=gi.ofa,
    )


def ci_profiles_of(gi_profiles: tuple[GiProfile, ...]) -> tuple[CiProfile, ...]:
    """The compute profiles of the instance profiles whose slice count is a known one."""
    return tuple(
        _ci_profile(gi, slices) for gi in gi_profiles for slices in _CI_SLICES.get(gi.slices, ())
    )


def gpu_uuid(index: int) -> str:
    """GPU-33333333-3333-3333-3333-333333333333 for index 3; from 16 on the index in hex."""
    if index < 16:
        digit = f"{index:x}"
        return "GPU-" + "-".join(digit * length for length in (8, 4, 4, 4, 12))
    return f"GPU-{index:08x}-0000-0000-0000-000000000000"


def _no_ecc_errors() -> tuple[EccCounter, ...]:
    return tuple(EccCounter(type=t, counter=c, value=0) for t in (0, 1) for c in (0, 1))


def _gpu(index: int, card: _Card, values: dict[str, Any]) -> Gpu:
    gi_profiles = _gi_profiles(card)
    defaults: dict[str, Any] = {
        "index": index,
        "uuid": gpu_uuid(index),
        "minor": index,
        "pci_bus": 0x07 + 8 * (index % 31),
        "pci_domain": index // 31,
        "serial": f"13221210{index:05d}",
        "board_id": 0x700 + index,
        "numa_node": index // 4,
        "local_cpulist": f"{16 * (index // 4)}-{16 * (index // 4) + 15}",
        "gi_profiles": gi_profiles,
        "ci_profiles": ci_profiles_of(gi_profiles),
        "ecc": _no_ecc_errors(),
    }
    return Gpu(**(defaults | values))


def _hopper(name: str, device_id: int, total_mb: int) -> dict[str, Any]:
    return {
        "name": name,
        "pci_device_id": device_id,
        "memory_total_bytes": total_mb << 20,
        "compute_major": 9,
        "architecture": 9,
        "power_limit_mw": 700_000,
        "pcie_gen": 5,
        "max_pcie_gen": 5,
    }


def a30(index: int, **changes: Any) -> Gpu:
    values = {
        "name": "NVIDIA A30",
        "pci_device_id": 0x20B710DE,
        "memory_total_bytes": 24576 << 20,
        "mig_max": 4,
        "power_limit_mw": 165_000,
    }
    return _gpu(index, _A30, values | changes)


def a100_40gb(index: int, **changes: Any) -> Gpu:  # Any: whatever fields Gpu has
    values = {
        "name": "NVIDIA A100-SXM4-40GB",
        "pci_device_id": 0x20B010DE,
        "memory_total_bytes": 42298834944,
    }
    return _gpu(index, _A100_40GB, values | changes)


def a100_80gb(index: int, **changes: Any) -> Gpu:
    values = {
        "name": "NVIDIA A100-SXM4-80GB",
        "pci_device_id": 0x20B210DE,
        "memory_total_bytes": 81920 << 20,
    }
    return _gpu(index, _A100_80GB, values | changes)


def h100_80gb(index: int, **changes: Any) -> Gpu:
    return _gpu(index, _H100_80GB, _hopper("NVIDIA H100 80GB HBM3", 0x233010DE, 81559) | changes)


def h200(index: int, **changes: Any) -> Gpu:
    return _gpu(index, _H200, _hopper("NVIDIA H200", 0x233510DE, 143771) | changes)


def b200(index: int, **changes: Any) -> Gpu:
    values = _hopper("NVIDIA B200", 0x290110DE, 183359)
    blackwell = {"compute_major": 10, "architecture": 10, "power_limit_mw": 1_000_000}
    return _gpu(index, _B200, values | blackwell | changes)
