"""Intel GPU products by PCI device id, as data; nothing else.

Ids, names and memory: kernel i915_pciids.h and xe_pciids.h, Intel's XPU Manager and product pages;
the memory is the board's nominal size, the driver's own answer is always better.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class Product(Struct, frozen=True, kw_only=True):
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


_TIGER_LAKE = (0x9A40, 0x9A49, 0x9A59, 0x9A60, 0x9A68, 0x9A70, 0x9A78, 0x9AC0, 0x9AC9, 0x9AD9)
_ROCKET_LAKE = (0x4C8A, 0x4C8B, 0x4C8C, 0x4C90, 0x4C9A)
_ALDER_LAKE_S = (0x4680, 0x4682, 0x4688, 0x468A, 0x468B, 0x4690, 0x4692, 0x4693)
_ALDER_LAKE_P = (
    *(0x4626, 0x4628, 0x462A, 0x46A0, 0x46A1, 0x46A2, 0x46A3, 0x46A6, 0x46A8, 0x46AA),
    *(0x46B0, 0x46B1, 0x46B2, 0x46B3, 0x46C0, 0x46C1, 0x46C2, 0x46C3),
)
_RAPTOR_LAKE_S = (0xA780, 0xA781, 0xA782, 0xA783, 0xA788, 0xA789, 0xA78A, 0xA78B)
_RAPTOR_LAKE_P = (0xA720, 0xA721, 0xA7A0, 0xA7A1, 0xA7A8, 0xA7A9, 0xA7AA, 0xA7AB, 0xA7AC, 0xA7AD)

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
        0x4905: _arc("Iris Xe MAX", 4),
        **dict.fromkeys(_TIGER_LAKE, _integrated("Tiger Lake")),
        **dict.fromkeys(_ROCKET_LAKE, _integrated("Rocket Lake-S")),
        **dict.fromkeys(_ALDER_LAKE_S, _integrated("Alder Lake-S")),
        **dict.fromkeys(_ALDER_LAKE_P, _integrated("Alder Lake-P")),
        **dict.fromkeys(range(0x46D0, 0x46D5), _integrated("Alder Lake-N")),
        **dict.fromkeys(_RAPTOR_LAKE_S, _integrated("Raptor Lake-S")),
        **dict.fromkeys(_RAPTOR_LAKE_P, _integrated("Raptor Lake-P")),
        **dict.fromkeys((0x7D40, 0x7D45, 0x7D55, 0x7D60, 0x7DD5), _integrated("Meteor Lake")),
        0x7D67: _integrated("Arrow Lake-S"),
        **dict.fromkeys((0x7D41, 0x7D51, 0x7DD1, 0xB640), _integrated("Arrow Lake-H")),
        **dict.fromkeys((0x6420, 0x64A0, 0x64B0), _integrated("Lunar Lake")),
        **dict.fromkeys(range(0xB080, 0xB088), _integrated("Panther Lake")),
    }
)
