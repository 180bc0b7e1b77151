"""How much memory a virtual function has on its host: the sources, best first.

1. amdsmi, where it is installed and GIM answers it. 2. GIM's debugfs (root only) corrects the
physical function's reserve and the number of functions for 3., the arithmetic. 4. The size of
BAR 0, a power of two that is at least the frame buffer.
"""

import importlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol, cast

from msgspec import Struct

from deviceplugin.errors import DiscoveryError, LibraryError
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


class FrameBuffer(Struct, frozen=True, kw_only=True):
    """The size of a frame buffer and where it is from."""

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
    """The frame buffer of a VF on its host without amdsmi, None where no source has it.

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


GIM_NODE = "/dev/gim-smi0"


class _Amdsmi(Protocol):
    """The five names of amdsmi that we use (smi-lib/py/interface/README.md)."""

    AmdSmiException: type[Exception]

    def amdsmi_init(self) -> object: ...
    def amdsmi_shut_down(self) -> object: ...
    def amdsmi_get_vf_handle_from_bdf(self, bdf: str) -> object: ...
    def amdsmi_get_vf_info(self, handle: object) -> Mapping[str, Mapping[str, int]]: ...


def read_frame_buffers(host: Host, addresses: Iterable[str]) -> Mapping[str, int]:
    """Bytes of frame buffer by VF address, as GIM itself reports; empty without GIM or amdsmi.

    Raises LibraryError where amdsmi is there and cannot talk to the driver.
    """
    if not host.exists(GIM_NODE) or (amdsmi := _load()) is None:
        return {}
    try:
        amdsmi.amdsmi_init()
    except amdsmi.AmdSmiException as error:
        raise LibraryError("amdsmi_init", getattr(error, "err_code", -1), str(error)) from error
    try:
        sizes = {address: _read_size(amdsmi, address) for address in addresses}
    finally:
        with suppress(amdsmi.AmdSmiException):
            amdsmi.amdsmi_shut_down()
    return {address: size for address, size in sizes.items() if size is not None}


def _load() -> _Amdsmi | None:
    """The Python package raises OSError or KeyError where its C library is missing."""
    try:
        module = importlib.import_module("amdsmi")
    except (ImportError, OSError, KeyError):
        return None
    return cast("_Amdsmi", module) if hasattr(module, "AmdSmiException") else None


def _read_size(amdsmi: _Amdsmi, address: str) -> int | None:
    """`fb_size` of amdsmi_get_vf_info is in MB (2^20); None for a VF that it does not know, and
    from the guest build of amdsmi, which lacks the call."""
    try:
        handle = amdsmi.amdsmi_get_vf_handle_from_bdf(address)
        return int(amdsmi.amdsmi_get_vf_info(handle)["fb"]["fb_size"]) * MIB or None
    except (amdsmi.AmdSmiException, AttributeError, KeyError, TypeError, ValueError):
        return None
