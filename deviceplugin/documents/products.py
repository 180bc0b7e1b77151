"""Memory bandwidth and FP16 throughput of GPUs by product, from the vendors' data sheets; pure.

Throughput is of the matrix units without sparsity. A product that is not here is unknown.
"""

import re
from collections.abc import Sequence

from msgspec import Struct


class Sheet(Struct, frozen=True):
    """Of one product, in GB/s and TFLOPS."""

    bandwidth: float
    throughput: float


_SHEETS: Sequence[tuple[str, Sheet]] = (
    (r"V100-PCIE", Sheet(900, 112)),
    (r"V100", Sheet(900, 125)),
    (r"\bT4\b", Sheet(320, 65)),
    (r"A100-PCIE-40GB", Sheet(1555, 312)),
    (r"A100-SXM4-40GB", Sheet(1555, 312)),
    (r"A100 80GB PCIe", Sheet(1935, 312)),
    (r"A100-SXM4-80GB", Sheet(2039, 312)),
    (r"\bA30\b", Sheet(933, 165)),
    (r"\bA10\b", Sheet(600, 125)),
    (r"\bL4\b", Sheet(300, 121)),
    (r"\bL40S\b", Sheet(864, 362)),
    (r"\bL40\b", Sheet(864, 181)),
    (r"H100 PCIe", Sheet(2000, 756)),
    (r"H100 80GB HBM3", Sheet(3350, 989)),
    (r"\bH200\b", Sheet(4800, 989)),
    (r"MI210", Sheet(1638, 181)),
    (r"MI250X", Sheet(3277, 383)),
    (r"MI300X", Sheet(5300, 1307)),
    (r"MI325X", Sheet(6000, 1307)),
)


def sheet_of(product: str | None) -> Sheet | None:
    """The data sheet of a product by its name, None where it is not known."""
    found = (sheet for pattern, sheet in _SHEETS if re.search(pattern, product or ""))
    return next(found, None)
