"""AMD's PCI device ids: which function is what, as far as a resource's size or name needs it; pure.

The ids are those of amdgpu's and GIM's public device tables; a device that is not listed works all
the same, it only has no product name of ours and no arithmetic for its virtual functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

VENDOR_ID = 0x1002


@dataclass(frozen=True, slots=True)
class Model:
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


def product_of(device_id: int) -> str | None:
    """The product's name by its PCI device id, None for a model that is not listed."""
    model = MODELS.get(device_id) or VIRTUAL_FUNCTIONS.get(device_id)
    return model.name if model else None
