"""A simulated NVML for the demo: pynvml's functions over plain values. Simulation, never product.

It answers what the NVIDIA vendor asks, with pynvml's own structures and errors; the tests use the
real pynvml over a C double instead.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import pynvml
from msgspec import Struct, field

NVMLError = pynvml.NVMLError
GIB = 1 << 30
NO_INSTANCE = 0xFFFFFFFF

# name: (index of the profile, the driver's id, slices, memory in MiB, multiprocessors) of an A100.
A100_PROFILES: Mapping[str, tuple[int, int, int, int, int]] = {
    "1g.5gb": (0, 19, 1, 4864, 14),
    "2g.10gb": (1, 14, 2, 9856, 28),
    "3g.20gb": (2, 9, 3, 19968, 42),
    "4g.20gb": (3, 5, 4, 19968, 56),
    "7g.40gb": (4, 0, 7, 40192, 98),
}
_DECODERS: Mapping[int, int] = {1: 0, 2: 1, 3: 2, 4: 2, 7: 5}  # of an A100, by slices


class SimulatedGpu(Struct):
    """One A100 of the simulated node; `instances` None means MIG mode is off."""

    index: int
    instances: Sequence[str] | None = None
    lost: bool = False

    @property
    def uuid(self) -> str:
        """The identity, recognisable as invented."""
        digit = str(self.index)
        return f"GPU-{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}"

    @property
    def pci_address(self) -> str:
        """`0000:1f:00.0` and so on, eight buses apart."""
        return f"0000:{7 + 8 * self.index:02x}:00.0"


class _Mig(Struct, frozen=True):
    gpu: SimulatedGpu
    slot: int


class SimulatedNvml(Struct):
    """An object with pynvml's functions; changing `gpus` is what happens to the hardware."""

    gpus: list[SimulatedGpu]
    changed: threading.Event = field(default_factory=threading.Event)
    NVMLError: type[Exception] = NVMLError
    broken: bool = False

    def __getattr__(self, function: str) -> Callable[..., Any]:
        """Functions that are not simulated answer as an old driver would: not found."""
        if not function.startswith("nvml"):
            raise AttributeError(function)
        return _not_found

    def nvmlInit(self) -> None:  # noqa: N802  # pynvml's names, here and below
        """Nothing to load."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Nothing to unload."""

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.163.01"

    def nvmlSystemGetNVMLVersion(self) -> str:  # noqa: N802
        return "12.550.163.01"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return _fail(pynvml.NVML_ERROR_UNKNOWN) if self.broken else len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimulatedGpu:  # noqa: N802
        return _answering(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> SimulatedGpu:  # noqa: N802
        found = [gpu for gpu in self.gpus if gpu.uuid == uuid]
        return _answering(found[0]) if found else _fail(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetPciInfo_v3(self, gpu: SimulatedGpu) -> Any:  # noqa: N802
        bus = int(gpu.pci_address[5:7], 16)
        return SimpleNamespace(domain=0, bus=bus, device=0, busId=gpu.pci_address.encode())

    def nvmlDeviceGetUUID(self, device: SimulatedGpu | _Mig) -> str:  # noqa: N802
        if isinstance(device, SimulatedGpu):
            return device.uuid
        return f"MIG-{device.gpu.index}{device.slot}000000-0000-0000-0000-000000000000"

    def nvmlDeviceGetMinorNumber(self, gpu: SimulatedGpu) -> int:  # noqa: N802
        return gpu.index

    def nvmlDeviceGetName(self, _: SimulatedGpu) -> str:  # noqa: N802
        return "NVIDIA A100-SXM4-40GB (simulated)"

    def nvmlDeviceGetMemoryInfo(self, _: SimulatedGpu) -> Any:  # noqa: N802
        return SimpleNamespace(total=40 * GIB, used=0, free=40 * GIB)

    def nvmlDeviceGetCudaComputeCapability(self, _: SimulatedGpu) -> tuple[int, int]:  # noqa: N802
        return (8, 0)

    def nvmlDeviceGetArchitecture(self, _: SimulatedGpu) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigMode(self, gpu: SimulatedGpu) -> list[int]:  # noqa: N802
        return [int(gpu.instances is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, _: SimulatedGpu) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: SimulatedGpu, index: int) -> _Mig:  # noqa: N802
        found = index < len(gpu.instances or ())
        return _Mig(gpu, index) if found else _fail(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetAttributes_v2(self, mig: _Mig) -> Any:  # noqa: N802
        _, _, slices, memory_mib, multiprocessors = _profile(mig)
        return SimpleNamespace(
            gpuInstanceSliceCount=slices,
            computeInstanceSliceCount=slices,
            memorySizeMB=memory_mib,
            multiprocessorCount=multiprocessors,
            sharedCopyEngineCount=slices,
            sharedDecoderCount=_DECODERS[slices],
            sharedEncoderCount=0,
            sharedJpegCount=slices // 7,
            sharedOfaCount=slices // 7,
        )

    def nvmlDeviceGetGpuInstanceId(self, mig: _Mig) -> int:  # noqa: N802
        return mig.slot + 1

    def nvmlDeviceGetComputeInstanceId(self, _: _Mig) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetGpuInstanceById(self, gpu: SimulatedGpu, gpu_instance: int) -> _Mig:  # noqa: N802
        return _Mig(gpu, gpu_instance - 1)

    def nvmlGpuInstanceGetInfo(self, mig: _Mig) -> Any:  # noqa: N802
        return SimpleNamespace(profileId=_profile(mig)[1])

    def nvmlDeviceGetGpuInstanceProfileInfo(self, _: SimulatedGpu, index: int) -> Any:  # noqa: N802
        ids = {profile[0]: profile[1] for profile in A100_PROFILES.values()}
        if index not in ids:
            return _fail(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(id=ids[index], name=b"")

    def nvmlDeviceGetTopologyCommonAncestor(self, one: SimulatedGpu, other: SimulatedGpu) -> int:  # noqa: N802
        return 40 if one.index // 4 == other.index // 4 else 50

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        return self.changed

    def nvmlEventSetFree(self, _: object) -> None:  # noqa: N802
        """Nothing was made."""

    def nvmlDeviceGetSupportedEventTypes(self, _: SimulatedGpu) -> int:  # noqa: N802
        return int(pynvml.nvmlEventMigConfigChange)

    def nvmlDeviceRegisterEvents(self, *_: object) -> None:  # noqa: N802
        """Every change is told to everybody."""

    def nvmlEventSetWait_v2(self, _: object, timeout_ms: int) -> Any:  # noqa: N802
        if not self.changed.wait(timeout_ms / 1000):
            return _fail(pynvml.NVML_ERROR_TIMEOUT)
        self.changed.clear()
        return SimpleNamespace(
            device=self.gpus[0],
            eventType=pynvml.nvmlEventMigConfigChange,
            eventData=0,
            gpuInstanceId=NO_INSTANCE,
            computeInstanceId=NO_INSTANCE,
        )


def _profile(mig: _Mig) -> tuple[int, int, int, int, int]:
    return A100_PROFILES[(mig.gpu.instances or ())[mig.slot]]


def _answering(gpu: SimulatedGpu) -> SimulatedGpu:
    return _fail(pynvml.NVML_ERROR_GPU_IS_LOST) if gpu.lost else gpu


def _not_found(*_: object) -> Any:
    return _fail(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def _fail(code: int) -> NoReturn:
    raise NVMLError(code)
