"""NVML's return codes as data: how serious each is for a GPU that answers with it, and what to do.

Meanings are those of nvml.h (nvmlReturn_t). A reboot is advised for a lost GPU alone, as NVIDIA's
XID catalogue does for XID 79; what else a driver that fails needs stands in the kernel log.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.errors import LibraryError
from deviceplugin.model import FaultClass

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 1, 2, 3, 4
NOT_FOUND, POWER, DRIVER_NOT_LOADED, TIMEOUT, INTERRUPT = 6, 8, 9, 10, 11
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, INFO_ROM, GPU_IS_LOST = 12, 13, 14, 15
RESET_REQUIRED, OPERATING_SYSTEM, VERSION_MISMATCH, IN_USE = 16, 17, 18, 19
MEMORY, NOT_READY, GPU_NOT_FOUND, UNKNOWN = 20, 27, 28, 999
# Answers of a GPU of which nothing else can be asked either.
FATAL = frozenset({UNINITIALIZED, GPU_IS_LOST, RESET_REQUIRED})
MINOR_NUMBER = "nvmlDeviceGetMinorNumber"


class Meaning(Struct, frozen=True, kw_only=True):
    """What a return code means for the GPU: its class, what is the matter (in words that follow
    the driver's own) and what a person should do; `name` is the code of the fault."""

    name: str
    kind: FaultClass
    what: str
    action: str


_SETUP, _RESET, _REBOOT = FaultClass.SETUP, FaultClass.RESET, FaultClass.REBOOT
_HARDWARE = FaultClass.HARDWARE
_LOG = "see the kernel log for NVRM and Xid messages of this GPU"
_ROWS: Mapping[int, tuple[FaultClass, str, str]] = {
    UNINITIALIZED: (
        _SETUP,
        "the library was closed meanwhile",
        "wait: it is opened again; if this stays, restart the daemon",
    ),
    NOT_SUPPORTED: (
        _SETUP,
        "the platform or the driver does not support what the daemon needs",
        "none on this platform (WSL2 and Tegra are not supported); elsewhere update the driver",
    ),
    NO_PERMISSION: (
        _SETUP,
        "the daemon lacks a permission",
        (
            "give the daemon's container the GPU's nodes (deploy/patches/nvidia.yaml); for a GPU"
            " in MIG mode also the MIG monitor capability (deploy/patches/nvidia-mig.yaml)"
        ),
    ),
    POWER: (
        _HARDWARE,
        "its external power cables are not properly attached",
        "check the GPU's power cables and connectors",
    ),
    DRIVER_NOT_LOADED: (
        _SETUP,
        "the kernel module nvidia is not loaded",
        "load it on the host (modprobe nvidia), or wait for the driver container",
    ),
    TIMEOUT: (_RESET, "the driver gave no answer in time", _LOG),
    INTERRUPT: (
        _HARDWARE,
        "the kernel has found an interrupt problem of the GPU",
        (
            "see the kernel log for interrupt (IRQ, MSI) messages of this GPU; check the firmware's"
            " PCIe settings and the slot"
        ),
    ),
    LIBRARY_NOT_FOUND: (
        _SETUP,
        "the library lacks a part of the driver",
        "install all packages of the driver in one version",
    ),
    FUNCTION_NOT_FOUND: (
        _SETUP,
        "the driver is too old for what the daemon needs",
        "update the driver",
    ),
    INFO_ROM: (
        _HARDWARE,
        "its info ROM is corrupted",
        "ask NVIDIA or the node's maker: the info ROM must be restored or the GPU replaced",
    ),
    GPU_IS_LOST: (
        _REBOOT,
        "the GPU has fallen off the bus",
        "reboot the node; if it comes back, check the GPU's seating and power",
    ),
    RESET_REQUIRED: (
        _RESET,
        "the GPU needs a reset",
        "reset the GPU (nvidia-smi --gpu-reset) after draining the node",
    ),
    OPERATING_SYSTEM: (
        _SETUP,
        "the operating system or the device cgroup blocks the GPU's node",
        "let the daemon's container open the GPU's nodes (deploy/patches/nvidia.yaml)",
    ),
    VERSION_MISMATCH: (
        _SETUP,
        "library and kernel module differ",
        "reload the driver's kernel modules after an update, or finish the update",
    ),
    IN_USE: (
        _SETUP,
        "something else uses the GPU exclusively now",
        "wait until that work (a reset, a change of MIG, an update) is over; nvidia-smi shows it",
    ),
    MEMORY: (
        _SETUP,
        "the system has not enough memory for the driver",
        "free memory on the node, or raise the memory limit of the daemon",
    ),
    NOT_READY: (
        _SETUP,
        "the system is not ready yet",
        "wait until the node's services for GPUs have started; if this stays, see the kernel log",
    ),
    GPU_NOT_FOUND: (_SETUP, "the driver has no GPU", _LOG),
}
_OTHER = (_RESET, "the driver fails", f"{_LOG} and do what it asks for; without any, reset the GPU")
_NAMES = {GPU_IS_LOST: "gpu_lost", RESET_REQUIRED: "reset_required"}

MEANINGS: Mapping[int, Meaning] = MappingProxyType(
    {
        code: Meaning(name=_NAMES.get(code, f"nvml_{code}"), kind=kind, what=what, action=action)
        for code, (kind, what, action) in _ROWS.items()
    }
)
_NO_MINOR = Meaning(
    name=f"nvml_{NOT_SUPPORTED}",
    kind=_SETUP,
    what="this platform gives no device number (WSL2?), which is not supported",
    action="none on this platform: run the daemon where GPUs have nodes /dev/nvidia<number>",
)


def meaning_of(error: LibraryError) -> Meaning:
    """What an error of NVML means for the GPU that it is about; each code has an answer."""
    if (error.call, error.code) == (MINOR_NUMBER, NOT_SUPPORTED):
        return _NO_MINOR
    known = MEANINGS.get(error.code)
    if known is not None:
        return known
    kind, what, action = _OTHER
    return Meaning(name=f"nvml_{error.code}", kind=kind, what=what, action=action)


def severity_of(error: LibraryError) -> int:
    """A number to find the worst of several errors by."""
    return list(FaultClass).index(meaning_of(error).kind)
