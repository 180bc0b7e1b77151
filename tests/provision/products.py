"""Products as their drivers describe them, and the layouts that NVIDIA publishes for each.

Profiles, counts, places and PCI ids: NVIDIA's MIG user guide; the layouts are those of the default
configuration that comes with mig-parted, written as our own table.
"""

from collections.abc import Mapping
from types import MappingProxyType

from deviceplugin.vendor.partitions import Mig, PartitionedGpu, Profile

Wish = Mapping[str, int]

# suffix of the size in eighths of memory; id, size, starts, most
_SEVEN = (
    (1, 1, "", 19, 1, range(7), 7),
    (1, 1, "+me", 20, 1, range(7), 1),
    (1, 2, "", 15, 2, (0, 2, 4, 6), 4),
    (2, 2, "", 14, 2, (0, 2, 4), 3),
    (3, 4, "", 9, 4, (0, 4), 2),
    (4, 4, "", 5, 4, (0,), 1),
    (7, 8, "", 0, 8, (0,), 1),
)
_FOUR = (
    (1, 1, "", 14, 1, range(4), 4),
    (1, 1, "+me", 21, 1, range(4), 1),
    (2, 2, "", 5, 2, (0, 2), 2),
    (2, 2, "+me", 6, 2, (0, 2), 1),
    (4, 4, "", 0, 4, (0,), 1),
)
# product: PCI device, gigabytes by eighths (A30: quarters), whether the mode changes at once
PRODUCTS: Mapping[str, tuple[str, Mapping[int, int], bool]] = MappingProxyType(
    {
        "A30": ("0x20B710DE", {1: 6, 2: 12, 4: 24}, False),
        "A100-40GB": ("0x20B010DE", {1: 5, 2: 10, 4: 20, 8: 40}, False),
        "A100-80GB": ("0x20B210DE", {1: 10, 2: 20, 4: 40, 8: 80}, False),
        "H100-80GB": ("0x233010DE", {1: 10, 2: 20, 4: 40, 8: 80}, True),
        "H100-NVL": ("0x232110DE", {1: 12, 2: 24, 4: 47, 8: 94}, True),
        "H100-96GB": ("0x233D10DE", {1: 12, 2: 24, 4: 48, 8: 96}, True),
        "H200": ("0x233510DE", {1: 18, 2: 35, 4: 71, 8: 141}, True),
        "GH200-144GB": ("0x234810DE", {1: 18, 2: 36, 4: 72, 8: 144}, True),
        "B200": ("0x290110DE", {1: 23, 2: 45, 4: 90, 8: 180}, True),
        "GB200": ("0x294110DE", {1: 24, 2: 47, 4: 95, 8: 189}, True),
    }
)


def _engines(slices: int, suffix: str) -> Mapping[str, int]:
    """As an A100 has them: one `+me` has the only engines for pictures."""
    media = int(suffix == "+me" or slices == 7)
    decoders = {1: 0, 2: 1, 3: 2, 4: 2, 7: 5}[slices] or media
    return {"copy": slices, "decoder": decoders, "encoder": 0, "jpeg": media, "ofa": media}


def product(name: str) -> PartitionedGpu:
    """A GPU of the product, whole; MIG mode is on where it does not change at once."""
    device, gigabytes, live = PRODUCTS[name]
    total = max(gigabytes.values()) * (2 if name == "A30" else 1)
    profiles = tuple(
        Profile(
            name=f"{slices}g.{gigabytes[share]}gb{suffix}",
            id=number,
            size=size,
            starts=tuple(starts),
            instances=most,
            memory_bytes=(size * total << 27) - (size << 20),
            multiprocessors=slices * 16,
            engines=_engines(slices, suffix),
        )
        for slices, share, suffix, number, size, starts, most in (
            _FOUR if name == "A30" else _SEVEN
        )
    )
    mig = Mig(enabled=not live, pending=not live, live=live, profiles=profiles)
    return PartitionedGpu(
        id=f"GPU-{name}",
        vendor="nvidia",
        product=f"NVIDIA {name}",
        index=0,
        address="0000:07:00.0",
        device=device,
        mig=mig,
    )


def layouts(name: str) -> Mapping[str, Wish]:
    """The published layouts of a product: all of one profile, the one with media, balanced."""
    gigabytes = PRODUCTS[name][1]
    if name == "A30":
        return {
            "all-1g.6gb": {"1g.6gb": 4},
            "all-1g.6gb.me": {"1g.6gb+me": 1},
            "all-2g.12gb": {"2g.12gb": 2},
            "all-2g.12gb.me": {"2g.12gb+me": 1},
            "all-4g.24gb": {"4g.24gb": 1},
            "all-balanced": {"1g.6gb": 2, "2g.12gb": 1},
        }
    one, two, four, all_ = (gigabytes[share] for share in (1, 2, 4, 8))
    return {
        f"all-1g.{one}gb": {f"1g.{one}gb": 7},
        f"all-1g.{one}gb.me": {f"1g.{one}gb+me": 1},
        f"all-1g.{two}gb": {f"1g.{two}gb": 4},
        f"all-2g.{two}gb": {f"2g.{two}gb": 3},
        f"all-3g.{four}gb": {f"3g.{four}gb": 2},
        f"all-4g.{four}gb": {f"4g.{four}gb": 1},
        f"all-7g.{all_}gb": {f"7g.{all_}gb": 1},
        "all-balanced": {f"1g.{one}gb": 2, f"2g.{two}gb": 1, f"3g.{four}gb": 1},
    }


CASES = [(name, layout) for name in PRODUCTS for layout in layouts(name)]
