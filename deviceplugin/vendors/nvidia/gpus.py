"""One GPU as NVML reports it, read call by call; nothing about how it is offered."""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.errors import LibraryError
from deviceplugin.vendors.nvidia.codes import FATAL, MINOR_NUMBER
from deviceplugin.vendors.nvidia.library import Fabric, Nvml, implausible
from deviceplugin.vendors.nvidia.mig import Instances, MigInstance, UnreadInstance, read_instances

T = TypeVar("T")
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
_MEMORY_CLOCK = 2  # nvml.h, NVML_CLOCK_MEM
# Display adapters of workstations, which compute nothing.
DISPLAYS = frozenset({"DGX Display", "NVIDIA DGX Display"})


class NvidiaGpu(Struct, frozen=True, kw_only=True):
    """A GPU and its MIG devices; `mig` and `mig_pending` are None where it knows no MIG.

    `virtualization` is nvml.h's nvmlGpuVirtualizationMode_t, `compute_mode` its nvmlComputeMode_t,
    `fabric` its registration with the NVLink fabric.
    `confidential` is the mode of confidential computing (`on`, `off`, `devtools`: on, and open to
    debuggers), `bandwidth_gbs` the memory's, in GB/s.
    `unread` are the MIG devices that could not be read; `unknown` has the errors of the facts that
    could not be read, by the name of the fact.
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
    unread: tuple[UnreadInstance, ...] = ()
    compute_mode: int | None = None
    fabric: Fabric | None = None
    unknown: tuple[tuple[str, LibraryError], ...] = ()
    confidential: str | None = None
    bandwidth_gbs: int | None = None
    persistence: bool | None = None


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


class _Reader(Struct, frozen=True):
    """Asks one GPU for the facts without which it can be offered all the same."""

    nvml: Nvml
    handle: Any  # pynvml has no types
    unknown: dict[str, LibraryError] = field(default_factory=dict)

    def ask(self, fact: str, function: str) -> Any:
        """The answer, None where it is not supported or, noted in `unknown`, fails."""
        try:
            return self.nvml.ask(function, self.handle)
        except LibraryError as error:
            return self._failed(fact, error)

    def product(self) -> str | None:
        try:
            return self.nvml.text("nvmlDeviceGetName", self.handle)
        except LibraryError as error:
            self._failed("name", error)
            return None

    def capability(self) -> tuple[int, int] | None:
        found = self.ask("compute capability", "nvmlDeviceGetCudaComputeCapability")
        return (found[0], found[1]) if found else None

    def ecc(self) -> bool | None:
        mode = self.ask("ECC mode", "nvmlDeviceGetEccMode")
        return bool(mode[0]) if mode is not None else None

    def architecture(self) -> str | None:
        return _ARCHITECTURES.get(self.ask("architecture", "nvmlDeviceGetArchitecture"))

    def memory_bytes(self) -> int | None:
        function = "nvmlDeviceGetMemoryInfo"
        memory = self.ask("memory", function)
        if memory is None or not memory.total:
            return None
        if memory.total > MAX_MEMORY_BYTES:
            self.unknown["memory"] = implausible(function, f"a memory of {memory.total} bytes")
            return None
        return int(memory.total)

    def confidential(self) -> str | None:
        """Of all GPUs of a machine alike; nvml.h, nvmlConfComputeSystemState_t."""
        state = self.maybe("nvmlSystemGetConfComputeState")
        if state is None:
            return None
        return "off" if not state.ccFeature else "devtools" if state.devToolsMode else "on"

    def bandwidth_gbs(self) -> int | None:
        """Two transfers for each clock that NVML tells, over the whole bus: as data sheets count it
        for HBM and GDDR6."""
        clock = self.maybe("nvmlDeviceGetMaxClockInfo", self.handle, _MEMORY_CLOCK)
        bits = self.maybe("nvmlDeviceGetMemoryBusWidth", self.handle)
        return round(2 * clock * bits / 8 / 1000) if clock and bits else None

    def persistence(self) -> bool | None:
        """Whether the driver keeps the GPU ready while nobody uses it."""
        mode = self.maybe("nvmlDeviceGetPersistenceMode", self.handle)
        return None if mode is None else bool(mode)

    def maybe(self, function: str, *arguments: Any) -> Any:
        """The answer to what nobody misses: None where it fails."""
        return _or_none(lambda: self.nvml.ask(function, *arguments))

    def mig(self, capability: tuple[int, int] | None) -> tuple[int, int] | None:
        """MIG mode now and pending; raises LibraryError where a GPU that may be in MIG mode does
        not say so: it could not be used whole then."""
        mig: tuple[int, int] | None = self.ask("MIG mode", "nvmlDeviceGetMigMode")
        if "MIG mode" in self.unknown and _knows_mig(capability):
            raise self.unknown["MIG mode"]
        return mig

    def instances(self, memory_bytes: int | None, mig: tuple[int, int] | None) -> Instances:
        """All MIG devices; raises LibraryError where none can be read or named."""
        if mig is None or not mig[0]:
            return (), ()
        if "memory" in self.unknown:
            raise self.unknown["memory"]
        return read_instances(self.nvml, self.handle, memory_bytes)

    def _failed(self, fact: str, error: LibraryError) -> None:
        if error.code in FATAL:
            raise error
        self.unknown[fact] = error


def _knows_mig(capability: tuple[int, int] | None) -> bool:
    """Whether a GPU may have MIG: of compute capability 8 that of the A100 and A30 alone."""
    if capability is None:
        return True
    return tuple(capability) == (8, 0) or capability[0] >= 9


def read_state(nvml: Nvml, handle: Any) -> tuple[int | None, Fabric | None]:
    """Compute mode and fabric registration of a GPU, None each where it does not say; raises
    LibraryError for a GPU that cannot be asked anything."""
    return (
        _or_none(lambda: nvml.ask("nvmlDeviceGetComputeMode", handle)),
        _or_none(lambda: nvml.fabric(handle)),
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except LibraryError as error:
        if error.code in FATAL:
            raise
        return None


def read_gpu(nvml: Nvml, index: int, handle: Any, pci_address: str) -> NvidiaGpu:
    """Everything about one GPU; raises LibraryError where it cannot be offered without what fails:
    its UUID, its device number, its MIG mode and its MIG devices."""
    reader = _Reader(nvml, handle)
    gpu = _read_offered(reader, index, pci_address)
    return replace(
        gpu,
        confidential=reader.confidential(),
        bandwidth_gbs=reader.bandwidth_gbs(),
        persistence=reader.persistence(),
    )


def _read_offered(reader: _Reader, index: int, pci_address: str) -> NvidiaGpu:
    """All but what only expectations are held against."""
    nvml, handle = reader.nvml, reader.handle
    uuid, minor = nvml.uuid(handle), nvml.call(MINOR_NUMBER, handle)
    memory_bytes, capability = reader.memory_bytes(), reader.capability()
    mig = reader.mig(capability)
    compute_mode, fabric = read_state(nvml, handle)
    instances, unread = reader.instances(memory_bytes, mig)
    return NvidiaGpu(
        uuid=uuid,
        index=index,
        minor=minor,
        pci_address=pci_address,
        product=reader.product(),
        memory_bytes=memory_bytes,
        compute_capability="{}.{}".format(*capability) if capability else None,
        architecture=reader.architecture(),
        mig=bool(mig[0]) if mig is not None else None,
        mig_pending=bool(mig[1]) if mig is not None else None,
        ecc=reader.ecc(),
        virtualization=reader.ask("virtualization mode", "nvmlDeviceGetVirtualizationMode"),
        instances=instances,
        unread=unread,
        compute_mode=compute_mode,
        fabric=fabric,
        unknown=tuple(reader.unknown.items()),
    )
