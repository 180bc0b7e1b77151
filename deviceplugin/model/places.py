"""Where a device is: its links to others, and the place of a part on its GPU; no behaviour."""

from enum import StrEnum
from typing import NewType

from msgspec import Struct

DeviceID = NewType("DeviceID", str)


class LinkKind(StrEnum):
    """The kinds of links whose costs are known here; a vendor may name others of its own."""

    NVLINK = "NVLINK"
    XGMI = "XGMI"
    XELINK = "XELINK"
    PCIE = "PCIE"


class Link(Struct, frozen=True, kw_only=True, gc=False):
    """A connection to a peer: `width` links side by side, `weight` the driver's own cost.

    `kind` is a printable word. `cost`, 1 to 1000 on the scale of docs/placement.md, is that of a
    kind that LinkKind does not have; without it such a link costs what an NVLink does.
    """

    peer: DeviceID
    kind: str
    width: int = 1
    weight: int | None = None
    cost: int | None = None


class Place(Struct, frozen=True, kw_only=True, gc=False):
    """The slices of a GPU that a part of it takes: `size` of `slices` from `start` on; `starts` are
    the places that a part like it can have."""

    slices: int
    start: int
    size: int
    starts: tuple[int, ...]
