"""How much memory a virtual function has on its host: the sources, best first.

1. amdsmi, where it is installed and GIM answers it. 2. GIM's debugfs (root only) corrects the
physical function's reserve and the number of functions for 3., the arithmetic. 4. The size of
BAR 0, a power of two that is at least the frame buffer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.modules import DEBUGFS
from deviceplugin.host.numbers import parse_hexadecimal
from deviceplugin.host.pci import DEVICES, read_function
from deviceplugin.vendors.amd.models import MODELS

MIB = 1 << 20
# GIM keeps this much for the physical function unless pf_fb_size says otherwise.
DEFAULT_RESERVE_BYTES = 256 * MIB
GRANULE_BYTES = 16 * MIB
_SETTING = re.compile(r"\s*([\w.]+)\s*=\s*(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBuffer:
    """A frame buffer and the source that told it."""

    memory_bytes: int
    source: str


def parse_settings(text: str) -> Mapping[str, int]:
    """The `name = number` lines of GIM's `init_conf` (decimal or 0x); others are left out."""
    matches = (_SETTING.fullmatch(line) for line in text.splitlines())
    return {m[1]: int(m[2], 16 if m[2][:2] in ("0x", "0X") else 10) for m in matches if m}


def parse_bar_bytes(text: str) -> int | None:
    """The size of BAR 0 from a PCI `resource` file, None where it is not in use."""
    words = text.split("\n", 1)[0].split()[:2]
    numbers = [number for word in words if (number := parse_hexadecimal(word)) is not None]
    if len(numbers) < 2:
        return None
    start, end = numbers
    return end - start + 1 if end > start else None


def share_bytes(total_bytes: int, reserve_bytes: int, functions: int) -> int:
    """An equal share of what the reserve leaves, in whole granules of 16 MiB."""
    return (total_bytes - reserve_bytes) // functions // GRANULE_BYTES * GRANULE_BYTES


def read_frame_buffer(host: Host, address: str, physical: str | None) -> FrameBuffer | None:
    """The frame buffer of a VF on its host without amdsmi, None where no source tells it.

    Raises DiscoveryError where a file that exists cannot be read.
    """
    return (_read_share(host, physical) if physical else None) or _read_bar(host, address)


def _read_share(host: Host, physical: str) -> FrameBuffer | None:
    function = read_function(host, physical)
    model = MODELS.get(function.device_id) if function else None
    gim = _read_gim_settings(host, physical)
    count = gim.get("total_vf_num") or host.read_int(f"{DEVICES}/{physical}/sriov_numvfs")
    if model is None or model.memory_gib is None or not count:
        return None
    reserve = gim["pf.fb_size"] * MIB if gim.get("pf.fb_size") else DEFAULT_RESERVE_BYTES
    share = share_bytes(model.memory_gib << 30, reserve, count)
    source = "gim init_conf" if gim else f"({model.memory_gib} GiB - 256 MiB) / {count}"
    return FrameBuffer(memory_bytes=share, source=source) if share > 0 else None


def _read_gim_settings(host: Host, physical: str) -> Mapping[str, int]:
    """Debugfs is for root alone; without it the defaults count."""
    try:
        text = host.read_text(f"{DEBUGFS}/gim/{physical}/init_conf")
    except DiscoveryError:
        return {}
    return parse_settings(text or "")


def _read_bar(host: Host, address: str) -> FrameBuffer | None:
    size = parse_bar_bytes(host.read_text(f"{DEVICES}/{address}/resource") or "")
    return FrameBuffer(memory_bytes=size, source="BAR 0, upper bound") if size else None
