"""AMD's PCI device ids: which function is what, as far as a resource's size or name needs it; pure.

The ids are those of amdgpu's and GIM's public device tables; a device that is not listed works all
the same, it only has no product name of ours and no arithmetic for its virtual functions.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

VENDOR_ID = 0x1002


class Model(Struct, frozen=True):
    """A GPU model: name, memory in GiB, number of compute dies (None: cannot be partitioned)."""

    name: str
    memory_gib: int | None = None
    compute_dies: int | None = None


MODELS: Mapping[int, Model] = MappingProxyType(
    {
        0x6860: Model("Radeon Instinct MI25", 16),
        0x738C: Model("AMD Instinct MI100", 32),
        0x7408: Model("AMD Instinct MI250X", 64),
        0x740C: Model("AMD Instinct MI250X", 64),
        0x740F: Model("AMD Instinct MI210", 64),
        0x74A0: Model("AMD Instinct MI300A", 128, 6),
        0x74A1: Model("AMD Instinct MI300X", 192, 8),
        0x74A2: Model("AMD Instinct MI308X", 192, 4),
        0x74A5: Model("AMD Instinct MI325X", 256, 8),
        0x75A0: Model("AMD Instinct MI350X", 288, 8),
        0x75A3: Model("AMD Instinct MI355X", 288, 8),
        0x73A1: Model("AMD Radeon PRO V620", 32),
        0x7460: Model("AMD Radeon PRO V710", 28),
    }
)

# Virtual functions have ids of their own; only these show in a guest that its GPU is one.
VIRTUAL_FUNCTIONS: Mapping[int, Model] = MappingProxyType(
    {
        0x686C: Model("Radeon Instinct MI25 MxGPU"),
        0x7410: Model("AMD Instinct MI210 VF"),
        0x74B5: Model("AMD Instinct MI300X VF"),
        0x74B6: Model("AMD Instinct MI308X VF"),
        0x74B9: Model("AMD Instinct MI325X VF"),
        0x74BC: Model("AMD Instinct MI308X HF VF"),
        0x74BD: Model("AMD Instinct MI300X HF VF"),
        0x75B0: Model("AMD Instinct MI350X VF"),
        0x75B3: Model("AMD Instinct MI355X VF"),
        0x73AE: Model("AMD Radeon PRO V620 MxGPU"),
        0x7461: Model("AMD Radeon PRO V710 MxGPU"),
    }
)

# The physical function of each virtual one: what a guest's function is a part of, or all of.
_PHYSICAL: Mapping[int, int] = MappingProxyType(
    {
        0x686C: 0x6860,
        0x7410: 0x740F,
        0x74B5: 0x74A1,
        0x74B6: 0x74A2,
        0x74B9: 0x74A5,
        0x74BC: 0x74A2,
        0x74BD: 0x74A1,
        0x75B0: 0x75A0,
        0x75B3: 0x75A3,
        0x73AE: 0x73A1,
        0x7461: 0x7460,
    }
)

# Processors with a GPU: it works in the host's memory beside a small part that firmware keeps for
# it. By PCI id, and by the version that KFD shows, which also knows those not listed here.
_INTEGRATED_IDS = frozenset(
    {0x1114, 0x13C0, 0x1435, 0x1506, 0x150E, 0x1586, 0x15BF, 0x15C8, 0x15D8, 0x15DD, 0x15E7}
    | {0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x164E, 0x1681, 0x1900, 0x1901, 0x98E4}
    | {0x9874}
)
_INTEGRATED_GFX = frozenset(
    {"gfx801", "gfx902", "gfx909", "gfx90c", "gfx1033", "gfx1035", "gfx1036", "gfx1037", "gfx1103"}
    | {"gfx1150", "gfx1151", "gfx1152", "gfx1153"}
)


def model_of(device_id: int) -> Model | None:
    """The model of a function; of a virtual one that of the GPU it is a part of."""
    return MODELS.get(_PHYSICAL.get(device_id, device_id))


def is_integrated(device_id: int, gfx_version: str | None) -> bool:
    """Whether the GPU is a part of a processor and works in the host's memory.

    Not so MI300A, whose memory is its own and complete in mem_info_vram_total.
    """
    return device_id in _INTEGRATED_IDS or gfx_version in _INTEGRATED_GFX


def product_of(device_id: int) -> str | None:
    """The product's name by its PCI device id, None for a model that is not listed."""
    model = MODELS.get(device_id) or VIRTUAL_FUNCTIONS.get(device_id)
    return model.name if model else None
