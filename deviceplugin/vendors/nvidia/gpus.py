"""One GPU as NVML reports it, read call by call; nothing about how it is offered."""

from dataclasses import dataclass
from typing import Any

from deviceplugin.vendors.nvidia.library import Nvml, implausible
from deviceplugin.vendors.nvidia.mig import MigInstance, read_instances

# nvmlDeviceArchitecture_t
_ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada-lovelace",
    9: "hopper",
    10: "blackwell",
    11: "orin",
    12: "rubin",
}
MAX_MEMORY_BYTES = 1 << 46
# Display adapters of workstations, which compute nothing.
DISPLAYS = frozenset({"DGX Display", "NVIDIA DGX Display"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpu:
    """A GPU and its MIG devices; `mig` and `mig_pending` are None where it knows no MIG.

    `virtualization` is nvml.h's nvmlGpuVirtualizationMode_t.
    """

    uuid: str
    index: int
    minor: int
    pci_address: str
    product: str | None
    memory_bytes: int | None
    compute_capability: str | None
    architecture: str | None
    mig: bool | None
    mig_pending: bool | None
    ecc: bool | None = None
    virtualization: int | None = None
    instances: tuple[MigInstance, ...] = ()


def read_handle(nvml: Nvml, index: int) -> Any:
    """The handle of the GPU with an NVML index; raises LibraryError, also for a lost GPU."""
    return nvml.call("nvmlDeviceGetHandleByIndex", index)


def read_pci_address(nvml: Nvml, handle: Any) -> str:
    """`domain:bus:device.0` from the numbers: the text form cuts domains above 0xffff."""
    function = "nvmlDeviceGetPciInfo_v3"
    info = nvml.call(function, handle)
    if info.bus > 0xFF or info.device > 0x1F:
        raise implausible(function, f"bus {info.bus:#x}, device {info.device:#x}")
    return f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.0"


def _read_memory_bytes(nvml: Nvml, handle: Any) -> int | None:
    function = "nvmlDeviceGetMemoryInfo"
    memory = nvml.ask(function, handle)
    if memory is None or not memory.total:
        return None
    if memory.total > MAX_MEMORY_BYTES:
        raise implausible(function, f"a memory of {memory.total} bytes")
    return int(memory.total)


def read_gpu(nvml: Nvml, index: int, handle: Any, pci_address: str) -> NvidiaGpu:
    """Everything about one GPU; raises LibraryError at the first call that fails."""
    memory_bytes = _read_memory_bytes(nvml, handle)
    mig = nvml.ask("nvmlDeviceGetMigMode", handle)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", handle)
    ecc = nvml.ask("nvmlDeviceGetEccMode", handle)
    enabled = bool(mig[0]) if mig is not None else None
    return NvidiaGpu(
        uuid=nvml.uuid(handle),
        index=index,
        minor=nvml.call("nvmlDeviceGetMinorNumber", handle),
        pci_address=pci_address,
        product=nvml.text("nvmlDeviceGetName", handle),
        memory_bytes=memory_bytes,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        architecture=_ARCHITECTURES.get(nvml.ask("nvmlDeviceGetArchitecture", handle)),
        mig=enabled,
        mig_pending=bool(mig[1]) if mig is not None else None,
        ecc=bool(ecc[0]) if ecc is not None else None,
        virtualization=nvml.ask("nvmlDeviceGetVirtualizationMode", handle),
        instances=read_instances(nvml, handle, memory_bytes) if enabled else (),
    )
