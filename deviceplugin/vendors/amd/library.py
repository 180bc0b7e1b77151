"""amdsmi of a GIM host: the only place that imports it, and where its errors end.

The host build (smi-lib of MxGPU-Virtualization) talks to the GIM driver through `/dev/gim-smi0`;
without that node nothing is imported. It is optional: the extra `deviceplugin[amd]`.
"""

import importlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol, cast

from deviceplugin.errors import LibraryError
from deviceplugin.host import Host

GIM_NODE = "/dev/gim-smi0"
MIB = 1 << 20


class _Amdsmi(Protocol):
    """The five names of amdsmi that we use (smi-lib/py/interface/README.md)."""

    AmdSmiException: type[Exception]

    def amdsmi_init(self) -> object: ...
    def amdsmi_shut_down(self) -> object: ...
    def amdsmi_get_vf_handle_from_bdf(self, bdf: str) -> object: ...
    def amdsmi_get_vf_info(self, handle: object) -> Mapping[str, Mapping[str, int]]: ...


def read_frame_buffers(host: Host, addresses: Iterable[str]) -> Mapping[str, int]:
    """Bytes of frame buffer by VF address, as GIM itself tells; empty without GIM or amdsmi.

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
