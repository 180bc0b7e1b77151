"""What single devices of the report of `discover` can do: True, False, or None where nothing tells;
pure.

NVIDIA: by compute capability, as in the CUDA programming guide. AMD: by the name of the instruction
set (gfx), as in the guides to CDNA and RDNA. Intel: by product; Arc, Flex and Max have matrix
units.
"""

import re
from collections.abc import Mapping
from typing import Any

from deviceplugin.documents.products import Sheet, sheet_of
from deviceplugin.schema import parse_bytes

Report = Mapping[str, Any]
_TOLERANCE = 0.95  # a GPU tells a little less memory than its name says
_NVIDIA: Mapping[str, tuple[int, int]] = {
    "FP64": (1, 3),
    "FP32": (1, 0),
    "FP16": (5, 3),
    "INT8": (6, 1),
    "BF16": (8, 0),
    "TF32": (8, 0),
    "FP8": (8, 9),
    "FP4": (10, 0),
}
_AMD: Mapping[str, str] = {
    "FP64": r"gfx",
    "FP32": r"gfx",
    "FP16": r"gfx(9|1[0-2])",
    "INT8": r"gfx(906|908|90a|94|95|103|11|12)",
    "BF16": r"gfx(908|90a|94|95|11|12)",
    "FP8": r"gfx(94|95|12)",
    "TF32": r"gfx94",
    "FP4": r"gfx95",
}
_AMD_MATRIX = r"gfx(908|90a|94|95|11|12)"
_INTEL_MATRIX = r"Intel (Data Center GPU (Flex|Max)|Arc (A|B|Pro))"
_INTEL = frozenset({"FP32", "FP16", "BF16", "INT8"})


def has_memory(device: Report, size: str) -> bool | None:
    """Whether it has memory of that size."""
    found = device["memory_bytes"]
    return None if found is None else bool(found >= parse_bytes(size) * _TOLERANCE)


def has_capability(device: Report, least: str) -> bool | None:
    """Whether it has NVIDIA's compute capability `8.0+`; others have none, so nothing tells."""
    found = capability_of(device)
    wanted = tuple(map(int, least.rstrip("+").split(".")))
    return None if found is None else found >= wanted


def has_matrix_units(device: Report) -> bool | None:
    """Tensor cores, AMD's matrix cores, Intel's XMX."""
    if (found := capability_of(device)) is not None:
        return found >= (7, 0)
    if gfx := _gfx(device):
        return re.match(_AMD_MATRIX, gfx) is not None
    return True if re.match(_INTEL_MATRIX, device["product"] or "") else None


def computes(device: Report, precision: str) -> bool | None:
    """Whether it computes with numbers of that precision."""
    if (found := capability_of(device)) is not None:
        if precision == "INT4":  # Turing to Ada alone
            return (7, 5) <= found < (9, 0)
        least = _NVIDIA.get(precision)
        return None if least is None else found >= least
    if gfx := _gfx(device):
        return re.match(_AMD.get(precision, "-"), gfx) is not None
    known = re.match(_INTEL_MATRIX, device["product"] or "") and precision in _INTEL
    return True if known else None


def bandwidth_of(device: Report) -> float | None:
    """Memory bandwidth in GB/s: by clock and bus where the driver tells them, else by product."""
    told = re.fullmatch(r"(\d+) GB/s", device["attributes"].get("memory_bandwidth", ""))
    if told:
        return float(told[1])
    sheet = sheet_of(device["product"])
    return sheet.bandwidth if sheet else None


def units_of(device: Report) -> int | None:
    """Multiprocessors, compute units or Xe-cores: those that the driver tells, else of the whole
    product, which a device has for itself or by turns."""
    own = device["attributes"]
    intel = (
        device["product"] and "Intel" in device["product"]
    )  # there it is what the file asked for
    told = own.get("multiprocessors") or (None if intel else own.get("compute_units"))
    return int(told) if told else (sheet_of(device["product"]) or Sheet()).units


def engines_of(device: Report) -> int | None:
    """NVIDIA's tensor cores, AMD's SIMD units, Intel's vector engines."""
    units = units_of(device)
    if units is None:
        return None
    if (found := capability_of(device)) is not None:
        return None if found < (7, 0) else units * (8 if found < (8, 0) else 4)
    if gfx := _gfx(device):
        return units * (4 if gfx.startswith("gfx9") else 2)
    return (sheet_of(device["product"]) or Sheet()).engines


def capability_of(device: Report) -> tuple[int, ...] | None:
    """NVIDIA's compute capability."""
    text = str(device["attributes"].get("compute_capability") or "")
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+\.\d+", text) else None


def _gfx(device: Report) -> str:
    return str(device["attributes"].get("gfx_version") or "")
