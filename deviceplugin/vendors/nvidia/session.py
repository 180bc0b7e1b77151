"""What of NVML's answers changes while its driver stays loaded: the GPUs, their MIG layout, compute
mode and fabric state.

A GPU's name, minor, address, architecture and capability do not; ECC and virtualization mode change
with a reset, after which a uevent or the regular look reads them.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from deviceplugin.errors import DiscoveryError, LibraryError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess, HealthReport, Sample
from deviceplugin.vendors.nvidia.codes import FATAL
from deviceplugin.vendors.nvidia.discovery import MAX_GPUS, Scan, read_gpus
from deviceplugin.vendors.nvidia.events import watch_events
from deviceplugin.vendors.nvidia.gpus import read_handle, read_state
from deviceplugin.vendors.nvidia.library import MAX_INSTANCES, Nvml, OpenNvml
from deviceplugin.vendors.nvidia.links import Links, read_links
from deviceplugin.vendors.nvidia.mig import read_instance_handle
from deviceplugin.vendors.nvidia.probes import GpuReadings, read_gpu_readings

if TYPE_CHECKING:  # what only telemetry needs
    from deviceplugin.vendors.nvidia.processes import ProcessMeter
    from deviceplugin.vendors.nvidia.telemetry import Meter

Fingerprint = tuple[Hashable, ...]


def read_fingerprint(nvml: Nvml) -> Fingerprint:
    """A value that differs where the GPUs or their instances do; LibraryError for a lost GPU."""
    count = nvml.count("nvmlDeviceGetCount", MAX_GPUS)
    return tuple(_read_gpu(nvml, read_handle(nvml, index)) for index in range(count))


def _read_gpu(nvml: Nvml, handle: Any) -> Hashable:
    """The memory is asked because the GPU itself answers: the library knows UUIDs by heart."""
    memory = _answer(nvml, "nvmlDeviceGetMemoryInfo", handle, lambda memory: memory.total)
    mig = _answer(nvml, "nvmlDeviceGetMigMode", handle, tuple)
    instances: Fingerprint = ()
    if isinstance(mig, tuple) and mig[0]:
        slots = nvml.count("nvmlDeviceGetMaxMigDeviceCount", MAX_INSTANCES, handle)
        instances = tuple(_read_instance(nvml, handle, slot) for slot in range(slots))
    return (nvml.uuid(handle), memory, mig, instances, read_state(nvml, handle))


def _answer(
    nvml: Nvml, function: str, handle: Any, value: Callable[[Any], Hashable]
) -> Hashable:  # Any: what NVML gives
    """What a GPU answers, or the code of its error: a GPU is served without some answers."""
    try:
        found = nvml.ask(function, handle)
    except LibraryError as error:
        if error.code in FATAL:
            raise
        return f"code {error.code}"
    return None if found is None else value(found)


def _read_instance(nvml: Nvml, gpu: Any, slot: int) -> Hashable:
    """Its UUID comes from the numbers of its parts, its attributes from its profile; of one that
    fails the code, as it costs itself alone."""
    try:
        handle = read_instance_handle(nvml, gpu, slot)
        if handle is None:
            return None
        found = nvml.call("nvmlDeviceGetAttributes_v2", handle)
        slices = (found.gpuInstanceSliceCount, found.computeInstanceSliceCount)
        return (nvml.uuid(handle), slices, found.memorySizeMB)
    except LibraryError as error:
        if error.code in FATAL:
            raise
        return f"code {error.code}"


class Snapshot(Struct, frozen=True, kw_only=True):
    """All GPUs now, with their links and versions; `driver_root` is a host path, `cuda_version`
    the newest CUDA that the driver supports (12040 is 12.4)."""

    scan: Scan
    links: Links
    driver_root: str
    driver_version: str | None
    library_version: str | None
    cuda_version: int | None = None


class Session(Protocol):
    """NVML, wherever it is loaded; every method may be called from any thread, and blocks."""

    def snapshot(self) -> Snapshot:
        """All GPUs, the library loaded first if it is not; raises VendorError."""

    def unchanged(self) -> bool:
        """Whether `snapshot` would give what it last gave, as far as a cheap look shows."""

    def ask(self, device: Device) -> GpuReadings:
        """How one GPU is; raises VendorError, also before the first `snapshot`."""

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What a GPU, the first, and its instances do; raises VendorError."""

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The processes on any of them; raises VendorError."""

    def watch(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Report each event until `stop`, or until nothing more can be heard."""

    def close(self) -> None:
        """Let the library go; the next `snapshot` loads it again."""


class NvmlSession:
    """NVML in this process.

    Discovery, probes and the watch of events ask it from threads of their own. The lock is held
    while the library is opened or closed, never while it is asked: a call that hangs blocks its
    own thread, and one that meets a closed library fails as LibraryError.
    """

    def __init__(self, host: Host, driver_root: str, open_library: OpenNvml) -> None:
        self._open = partial(open_library, host, driver_root)
        self._lock = Lock()
        self._nvml: Nvml | None = None
        self._links: Links = {}
        self._fingerprint: Fingerprint | None = None
        self._measuring: tuple[Nvml, tuple[Meter, ProcessMeter]] | None = None

    def snapshot(self) -> Snapshot:
        """Fulfils Session. A session can outlive its driver: a new one says what is the matter."""
        nvml = self._opened()
        try:
            return self._snapshot(nvml)
        except LibraryError:
            self._close(nvml)
            return self._snapshot(self._opened())

    def unchanged(self) -> bool:
        """Fulfils Session."""
        nvml, last = self._nvml, self._fingerprint
        return nvml is not None and last is not None and _fingerprint_or_none(nvml) == last

    def ask(self, device: Device) -> GpuReadings:
        """Fulfils Session."""
        nvml = self._nvml
        if nvml is None:
            raise DiscoveryError("there is no NVML session")
        return read_gpu_readings(nvml, device)

    def sample(self, devices: Sequence[Device]) -> Sample:
        """Fulfils Session."""
        return self._meters()[0].sample(devices)

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """Fulfils Session."""
        return self._meters()[1].processes(devices)

    def _meters(self) -> "tuple[Meter, ProcessMeter]":
        """Those of the library that is open now; loaded where somebody measures."""
        nvml, meters = self._nvml, self._measuring
        if nvml is None:
            raise DiscoveryError("there is no NVML session")
        if meters is None or meters[0] is not nvml:
            from deviceplugin.vendors.nvidia.processes import ProcessMeter  # noqa: PLC0415
            from deviceplugin.vendors.nvidia.telemetry import Meter  # noqa: PLC0415

            meters = self._measuring = (nvml, (Meter(nvml), ProcessMeter(nvml)))
        return meters[1]

    def watch(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Fulfils Session."""
        watch_events(self._opened(), devices, report, stop)

    def close(self) -> None:
        """Fulfils Session."""
        self._close(self._nvml)

    def _opened(self) -> Nvml:
        with self._lock:
            if self._nvml is None:
                self._nvml = self._open()
            return self._nvml

    def _close(self, nvml: Nvml | None) -> None:
        """Close that session; one that another thread has opened since then stays."""
        with self._lock:
            if nvml is not None and nvml is self._nvml:
                self._nvml = None
                nvml.close()

    def _snapshot(self, nvml: Nvml) -> Snapshot:
        # Taken before the GPUs are read: what changes meanwhile is news.
        self._fingerprint = _fingerprint_or_none(nvml)
        scan = read_gpus(nvml)
        return Snapshot(
            scan=scan,
            links=self._read_links(nvml, scan),
            driver_root=nvml.driver_root,
            driver_version=_version(nvml, "nvmlSystemGetDriverVersion"),
            library_version=_version(nvml, "nvmlSystemGetNVMLVersion"),
            cuda_version=_cuda_version(nvml),
        )

    def _read_links(self, nvml: Nvml, scan: Scan) -> Links:
        """Links of the whole GPUs, read again only when another set of GPUs answers."""
        uuids = {DeviceID(gpu.uuid): gpu for gpu in scan.gpus if not gpu.mig}
        if uuids.keys() != self._links.keys():
            handles = {
                uuid: (nvml.call("nvmlDeviceGetHandleByIndex", gpu.index), gpu.pci_address)
                for uuid, gpu in uuids.items()
            }
            self._links = read_links(nvml, handles)
        return self._links


def _fingerprint_or_none(nvml: Nvml) -> Fingerprint | None:
    """None where a GPU does not answer: a snapshot then shows which, and why."""
    try:
        return read_fingerprint(nvml)
    except LibraryError:
        return None


def _version(nvml: Nvml, function: str) -> str | None:
    """No GPU is the worse for a version that cannot be read."""
    try:
        return nvml.text(function)
    except LibraryError:
        return None


def _cuda_version(nvml: Nvml) -> int | None:
    try:
        found = nvml.ask("nvmlSystemGetCudaDriverVersion_v2")
    except LibraryError:
        return None
    return int(found) if isinstance(found, int) and found >= 1000 else None
