"""Layouts as they are declared: which GPUs, and what they are cut into; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from deviceplugin.schema import Places, Section, Size, parse_bytes, section_of

MAX_COUNT = 64
_ALL = 100
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
ComputeMode = Literal["SPX", "DPX", "TPX", "QPX", "CPX"]
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")
MemoryMode = Literal["NPS1", "NPS2", "NPS4", "NPS8"]


class Selector(Section, frozen=True):
    """Which GPUs a layout is for: those that fulfil every key that is given.

    `product` is a part of the product's name, whatever its case; `device` the PCI device and
    vendor as foreign files write it.
    """

    vendor: str | None = None
    product: str | None = None
    index: tuple[int, ...] | None = None
    id: str | None = None
    address: str | None = None
    device: tuple[str, ...] | None = None


class VirtualFunctions(Section, frozen=True):
    """So many virtual functions; `memory` of each, without it the driver's equal share; `compute`
    is the part of the GPU's time for each, as 25%; `driver` the one that they get, vfio-pci for
    machines."""

    count: Annotated[int, Meta(ge=0, le=256)]
    memory: Size | None = None
    compute: str | None = None
    driver: Literal["xe", "i915", "vfio-pci", "amdgpu"] | None = None

    def __post_init__(self) -> None:
        """Check the size and the part here, where the key's path is still known."""
        if self.memory is not None:
            try:
                parse_bytes(self.memory)
            except ValueError as error:
                raise ValueError("memory: a size above zero such as 4GiB") from error
        if self.compute is not None:
            _check_compute(self.compute, self.count)

    @property
    def compute_percent(self) -> int | None:
        """The part of each in percent."""
        return None if self.compute is None else int(self.compute[:-1])

    @property
    def memory_bytes(self) -> int | None:
        """The size in bytes."""
        return None if self.memory is None else parse_bytes(self.memory)


def _check_compute(compute: str, count: int) -> None:
    if not _PERCENT.fullmatch(compute):
        raise ValueError("compute: a part of the GPU's time from 1% to 100% such as 25%")
    if int(compute[:-1]) * count > _ALL:
        most = f"{_ALL // count}% or less" if count <= _ALL else "no such key"
        raise ValueError(f"compute: {most}: {count} × {compute} is more than 100%")


class Layout(Section, frozen=True):
    """What the GPUs of a selector are cut into; exactly one kind. The first layout that selects a
    GPU counts.

    With `on_demand` claims say what there is: an instance is made when one asks for it. `adopt`
    allows to destroy instances that others than we have made.
    """

    select: Selector = Selector()
    mig: Mapping[str, Any] | None = None  # numbers, checked below in better words
    compute: ComputeMode | None = None
    memory: MemoryMode | None = None
    virtual_functions: VirtualFunctions | None = None
    none: bool = False
    on_demand: bool = False
    adopt: bool = False

    def __post_init__(self) -> None:
        """Refuse a layout that is none, or more than one."""
        if not all(_is_count(count) for count in (self.mig or {}).values()):
            raise ValueError("mig: profiles with a number from 0 to 64 each, as {1g.5gb: 7}")
        kinds = (
            self.mig is not None,
            self.compute is not None or self.memory is not None,
            self.virtual_functions is not None,
            self.none,
            self.on_demand,
        )
        if self.on_demand and self.select.vendor not in (None, "nvidia"):
            raise ValueError(
                f"on_demand: of NVIDIA's MIG alone: give the GPUs of {self.select.vendor} a layout"
                " that stands (compute, virtual_functions)"
            )
        if sum(kinds) != 1:
            raise ValueError(
                "one of mig, compute and memory, virtual_functions, none: true, on_demand: true,"
                " and no other"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


class Layouts(Section, frozen=True):
    """A file of layouts: those that hold (`partitions`)."""

    partitions: tuple[Layout, ...] = ()


class PartitioningSection(Section, frozen=True):
    """Where layouts come from beside `partitions`: `file` is one of mig-parted or of the Device
    Config Manager as this process finds it, `layout` its entry that holds; with `labels` the
    labels of the node name it."""

    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType({"file": Places(("/etc",))})

    file: str | None = None
    layout: str | None = None
    labels: bool = False

    def __post_init__(self) -> None:
        """An entry is one of a file."""
        if self.file is None and (self.layout is not None or self.labels):
            raise ValueError("layout and labels name an entry of a file: give file too")


SECTIONS: Mapping[str, Any] = {
    "partitioning": PartitioningSection,
    "partitions": tuple[Layout, ...] | None,
}


class Wanted(Section, frozen=True):
    """What the configuration asks for."""

    layouts: tuple[Layout, ...] = ()
    source: PartitioningSection = PartitioningSection()

    @property
    def is_off(self) -> bool:
        """Whether nothing is to be partitioned."""
        return not self.layouts and self.source.file is None


def wanted_of(sections: Mapping[str, object]) -> Wanted:
    """What the sections ask for."""
    given = sections.get("partitions") or ()
    layouts = tuple(one for one in given if isinstance(one, Layout)) if given else ()  # type: ignore[attr-defined]  # decoded as a tuple
    source = section_of(sections, "partitioning", PartitioningSection)
    return Wanted(layouts=layouts, source=source)
