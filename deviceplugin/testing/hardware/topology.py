"""The matrix of `nvidia-smi topo -m`; pure."""

import re
from collections.abc import Mapping

# Its words, by the levels of NVML's common ancestor (nvml.h, NVML_TOPOLOGY_*).
LEVELS: Mapping[str, tuple[int, ...]] = {
    "PIX": (0, 10),
    "PXB": (20,),
    "PHB": (30,),
    "NODE": (40,),
    "SYS": (50,),
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_GPU = re.compile(r"GPU(\d+)")
_NVLINKS = re.compile(r"NV(\d+)")


def parse_topology(text: str) -> Mapping[tuple[int, int], str]:
    """Pairs of GPU indices and the word between them; what is not the matrix is passed over."""
    columns: dict[int, int] = {}
    found: dict[tuple[int, int], str] = {}
    for line in _COLOUR.sub("", text).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        row = _GPU.fullmatch(cells[0])
        if row is None and not columns:
            columns = {i: int(m[1]) for i, c in enumerate(cells) if (m := _GPU.fullmatch(c))}
        elif row is not None:
            for place, peer in columns.items():
                if place < len(cells) and cells[place] not in ("X", ""):
                    found[int(row[1]), peer] = cells[place]
    return found


def nvlinks(word: str) -> int:
    """How many NVLinks a word of the matrix says: 12 for NV12, 0 for a word of PCIe."""
    match = _NVLINKS.fullmatch(word)
    return int(match[1]) if match else 0
