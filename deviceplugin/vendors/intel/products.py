"""Intel GPU products by PCI device id, as data; nothing else.

Ids, names and memory: kernel i915_pciids.h and xe_pciids.h, Intel's XPU Manager and product pages;
the memory is the board's nominal size, the driver's own answer is always better.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product: `memory_gib` holds every size it is sold with and is empty if integrated.

    `sriov` means that it can have virtual functions, so that one may be seen in a guest.
    """

    name: str
    memory_gib: tuple[int, ...] = ()
    sriov: bool = False

    @property
    def integrated(self) -> bool:
        """Whether it computes in the host's memory and has none of its own."""
        return not self.memory_gib

    @property
    def largest_bytes(self) -> int | None:
        """The most memory that a board of this product has."""
        return max(self.memory_gib) << 30 if self.memory_gib else None

    @property
    def smallest_bytes(self) -> int | None:
        """The least memory that a whole board of this product has."""
        return min(self.memory_gib) << 30 if self.memory_gib else None


def _arc(name: str, *memory_gib: int, sriov: bool = False) -> Product:
    return Product(name=f"Intel Arc {name}", memory_gib=memory_gib, sriov=sriov)


def _data_center(name: str, memory_gib: int) -> Product:
    return Product(name=f"Intel Data Center GPU {name}", memory_gib=(memory_gib,), sriov=True)


def _integrated(name: str) -> Product:
    return Product(name=f"Intel {name} integrated graphics", sriov=True)


PRODUCTS: Mapping[int, Product] = MappingProxyType(
    {
        0x56A0: _arc("A770", 16, 8),
        0x56A1: _arc("A750", 8),
        0x56A2: _arc("A580", 8),
        0x56A5: _arc("A380", 6),
        0x56A6: _arc("A310", 4),
        0x56B0: _arc("Pro A30M", 4),
        0x56B1: _arc("Pro A40/A50", 6),
        0x56B2: _arc("Pro A60M", 8),
        0x56B3: _arc("Pro A60", 12),
        0xE20B: _arc("B580", 12),
        0xE20C: _arc("B570", 10),
        0xE211: _arc("Pro B60", 24, sriov=True),
        0xE212: _arc("Pro B50", 16, sriov=True),
        0xE216: _arc("Pro B60", 24, sriov=True),
        0xE222: _arc("Pro B65", 32, sriov=True),
        0xE223: _arc("Pro B70", 32, sriov=True),
        0x56C0: _data_center("Flex 170", 16),
        0x56C1: _data_center("Flex 140", 6),
        0x0B69: _data_center("Max 1550", 128),
        0x0BD0: _data_center("Max 1550", 128),
        0x0BD5: _data_center("Max 1550", 128),
        0x0BD6: _data_center("Max 1450", 128),
        0x0BD9: _data_center("Max 1100", 48),
        0x0BDA: _data_center("Max 1100", 48),
        0x0BDB: _data_center("Max 1100", 48),
        0x4626: _integrated("Alder Lake-P"),
        0x7D67: _integrated("Arrow Lake-S"),
        0x9A49: _integrated("Tiger Lake"),
        0xA7A0: _integrated("Raptor Lake-P"),
        **dict.fromkeys(range(0xB080, 0xB088), _integrated("Panther Lake")),
    }
)
