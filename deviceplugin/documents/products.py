"""What GPUs have by product, from the vendors' data sheets; pure.

Throughput is of the matrix units at FP16 without sparsity. A product that is not here, or a number
that a data sheet does not give, is unknown.
"""

import re
from collections.abc import Sequence

from msgspec import Struct


class Sheet(Struct, frozen=True):
    """Of one product: memory bandwidth in GB/s, throughput in TFLOPS, its units (NVIDIA's
    multiprocessors, AMD's compute units, Intel's Xe-cores), and Intel's vector engines."""

    bandwidth: float | None = None
    throughput: float | None = None
    units: int | None = None
    engines: int | None = None


_SHEETS: Sequence[tuple[str, Sheet]] = (
    (r"V100-PCIE", Sheet(900, 112, 80)),
    (r"V100", Sheet(900, 125, 80)),
    (r"\bT4\b", Sheet(320, 65, 40)),
    (r"A100-PCIE-40GB", Sheet(1555, 312, 108)),
    (r"A100-SXM4-40GB", Sheet(1555, 312, 108)),
    (r"A100 80GB PCIe", Sheet(1935, 312, 108)),
    (r"A100-SXM4-80GB", Sheet(2039, 312, 108)),
    (r"\bA30\b", Sheet(933, 165, 56)),
    (r"\bA10\b", Sheet(600, 125, 72)),
    (r"\bL4\b", Sheet(300, 121, 58)),
    (r"\bL40S\b", Sheet(864, 362, 142)),
    (r"\bL40\b", Sheet(864, 181, 142)),
    (r"H100 PCIe", Sheet(2000, 756, 114)),
    (r"H100 80GB HBM3", Sheet(3350, 989, 132)),
    (r"\bH200\b", Sheet(4800, 989, 132)),
    (r"MI210", Sheet(1638, 181, 104)),
    (r"MI250X", Sheet(3277, 383, 220)),
    (r"MI300X", Sheet(5300, 1307, 304)),
    (r"MI325X", Sheet(6000, 1307, 304)),
    (r"Flex 170", Sheet(576, None, 32, 512)),
    (r"Flex 140", Sheet(None, None, 8, 128)),  # the card has two such GPUs
    (r"Max 1100", Sheet(1229, None, 56, 448)),
    (r"Max 1550", Sheet(3277, None, 128, 1024)),
    (r"Arc A770", Sheet(None, None, 32, 512)),
    (r"Arc A750", Sheet(512, None, 28, 448)),
    (r"Arc B580", Sheet(456, None, 20, 160)),
    (r"Arc Pro B60", Sheet(456, None, 20, 160)),
)


def sheet_of(product: str | None) -> Sheet | None:
    """The data sheet of a product by its name, None where it is not known."""
    found = (sheet for pattern, sheet in _SHEETS if re.search(pattern, product or ""))
    return next(found, None)
