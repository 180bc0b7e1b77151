"""NVIDIA's XID errors as data: code, name, class and what to do; nothing else.

Classes and actions follow the immediate resolution of NVIDIA's XID catalogue (codes 1 to 172,
docs.nvidia.com/deploy/xid-errors) as generated on 2025-10-29. A code that the catalogue does not
explain is reported, and the device stays Healthy.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.model import FaultClass

APP, INFO, WARN = FaultClass.APP, FaultClass.INFO, FaultClass.WARN
RESET, REBOOT, HARDWARE = FaultClass.RESET, FaultClass.REBOOT, FaultClass.HARDWARE

_RESTART = "restart the application; if it comes back with others, have the GPU looked at"
_CHECK_APP = "restart the application and check its CUDA code"
_NOTHING = "none by itself"
_FOLLOW = "follow the error that came with it"
_VERDICT = "none: the driver's recovery action decides, it is read at once"
_RESET = "drain the node and reset the GPU (nvidia-smi --gpu-reset); if it returns, ask support"
_SOFTWARE = "drain the node and reset the GPU; if it returns, update the driver"
_NVLINK = "drain the node and reset the GPU; check NVLink, fabric manager and cables"
_NVLINK5 = "see the kernel log for the unit and its severity, and the GPU's recovery action"
_SUPPORT = "ask NVIDIA support; the device stays Healthy"
_WATCH = "plan a reset at the next drain"


class Xid(Struct, frozen=True, kw_only=True):
    """One entry of the catalogue; `action` says in one line what a person should do."""

    code: int
    name: str
    kind: FaultClass
    action: str


def _rows() -> Iterator[Xid]:
    for codes, name, kind, action in _TABLE:
        for code in codes:
            yield Xid(code=code, name=name, kind=kind, action=action)


_Codes = tuple[int, ...] | range
_TABLE: tuple[tuple[_Codes, str, FaultClass, str], ...] = (
    ((8,), "GPU stopped processing", APP, _RESTART),
    ((11,), "invalid or corrupted push buffer stream", APP, _CHECK_APP),
    ((13,), "graphics engine exception", APP, _CHECK_APP),
    ((14,), "code not in use", INFO, _NOTHING),
    ((25,), "invalid or illegal push buffer stream", APP, _CHECK_APP),
    ((31,), "GPU memory page fault", APP, _CHECK_APP),
    ((32,), "invalid or corrupted push buffer stream", APP, _CHECK_APP),
    ((37,), "driver firmware error", INFO, _CHECK_APP),
    ((38,), "driver firmware error", INFO, _NOTHING),
    ((39, 40, 41), "copy engine exception", APP, _RESTART),
    ((43,), "GPU stopped processing", INFO, _NOTHING),
    ((44,), "fault in a context switch", INFO, _NOTHING),
    ((45,), "preemptive clean-up after an earlier error", INFO, _FOLLOW),
    ((46,), "GPU stopped processing (timeout)", RESET, _RESET),
    ((48,), "double-bit ECC error", RESET, _RESET),
    ((54,), "auxiliary power is not connected", HARDWARE, "check the GPU's power cables"),
    ((60,), "video processor exception", APP, _RESTART),
    ((62,), "internal micro-controller halt", RESET, _RESET),
    ((63,), "row remap or page retirement recorded", WARN, _WATCH),
    ((64,), "row remap or page retirement failed", RESET, f"{_RESET}; it may need replacing"),
    ((66, 67), "illegal access by the driver", INFO, "update the driver if it comes back"),
    ((68,), "video decoder exception", APP, _RESTART),
    ((69,), "graphics engine class error", APP, _CHECK_APP),
    ((70, 71, 72), "copy engine exception", APP, _RESTART),
    ((74,), "NVLink error", RESET, _NVLINK),
    ((75, 76, 77), "copy engine exception", APP, _RESTART),
    ((78,), "vGPU start error", WARN, "install matching vGPU software on host and guest"),
    (
        (79,),
        "GPU has fallen off the bus",
        REBOOT,
        "reboot the node; if it returns, check the GPU's seating, power and cooling",
    ),
    ((80,), "corrupted data sent to the GPU", APP, _CHECK_APP),
    ((82, 83, 84, 86, 88, 89), "video or JPEG engine exception", APP, _RESTART),
    ((85,), "copy engine exception", APP, _RESTART),
    ((92,), "high rate of single-bit ECC errors", WARN, _SUPPORT),
    ((93,), "InfoROM wear limit", WARN, _SUPPORT),
    ((94,), "contained memory error", APP, "restart the applications on this GPU"),
    ((95,), "uncontained memory error", RESET, _RESET),
    (range(96, 106), "video or JPEG engine exception", APP, _RESTART),
    ((106, 107), "SMBus test message", INFO, _NOTHING),
    ((108,), "NVLink remote translation error", INFO, _FOLLOW),
    ((109,), "context switch timeout", RESET, _RESET),
    ((110,), "security fault", RESET, _SOFTWARE),
    ((119,), "GSP RPC timeout", RESET, _SOFTWARE),
    ((120,), "GSP error", RESET, _SOFTWARE),
    ((121,), "C2C link error", WARN, _SUPPORT),
    (range(126, 136), "copy engine exception", APP, _RESTART),
    ((136,), "link training failed", RESET, _NVLINK),
    ((137,), "NVLink privilege error", APP, _CHECK_APP),
    ((139,), "optical flow engine exception", APP, _RESTART),
    ((140,), "unrecovered ECC error", RESET, _RESET),
    ((141,), "CUDA fast path error", INFO, _NOTHING),
    ((142,), "video encoder error", HARDWARE, "ask NVIDIA support before it is used again"),
    ((143,), "GPU initialisation error", RESET, _RESET),
    ((144,), "NVLink5 SAW error", WARN, _NVLINK5),
    ((145,), "NVLink5 RLW error", WARN, _NVLINK5),
    ((146,), "NVLink5 TLW error", WARN, _NVLINK5),
    ((147,), "NVLink5 TREX error", WARN, _NVLINK5),
    ((148,), "NVLink5 NVLPW error", WARN, _NVLINK5),
    ((149,), "NVLink5 NETIR error", WARN, _NVLINK5),
    ((150,), "NVLink5 MSE error", WARN, _NVLINK5),
    ((151,), "key rotation error", REBOOT, "restart the virtual machine or the node"),
    ((152, 153), "DLA error", INFO, _NOTHING),
    ((154,), "GPU recovery action changed", INFO, _VERDICT),
    ((155,), "NVLink error defined by software", RESET, _NVLINK),
    ((156,), "resource retired", RESET, _RESET),
    ((157,), "resource retirement failed", WARN, _SUPPORT),
    ((158,), "GPU fatal timeout", RESET, _RESET),
    ((159,), "CHI non-data error", WARN, "check the unified memory driver in the kernel log"),
    ((160,), "channel retired", WARN, _WATCH),
    ((161,), "channel retirement failed", WARN, _WATCH),
    ((162, 163), "power smoothing re-engaged or disengaged", INFO, _NOTHING),
    ((164,), "power smoothing hardware: low lifetime left", WARN, "plan a replacement"),
    ((165,), "power smoothing hardware: lifetime exhausted", WARN, "replace it when convenient"),
    ((166, 170), "NVLink confidential computing error", WARN, _SUPPORT),
    ((167,), "PCIe fatal timeout", REBOOT, "reboot the node; if it returns, check the slot"),
    ((168,), "reduced memory capacity", WARN, "check the GPU's memory size against its type"),
    ((169,), "SEC2 halt", RESET, _RESET),
    ((171, 172), "detail of a double-bit ECC error", INFO, _FOLLOW),
    ((173,), "C2C fatal error", REBOOT, "reboot the node; if it returns, ask support"),
)

XIDS: Mapping[int, Xid] = MappingProxyType({xid.code: xid for xid in _rows()})


def xid_of(code: int) -> Xid:
    """The catalogue's entry; for a code that it does not explain, one that is only reported."""
    known = XIDS.get(code)
    if known is not None:
        return known
    return Xid(code=code, name="code without a published meaning", kind=WARN, action=_SUPPORT)
