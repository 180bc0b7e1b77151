"""Which processes use GPUs and MIG instances, as NVML knows them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.errors import LibraryError
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess
from deviceplugin.vendors.nvidia.library import Nvml

MAX_PROCESSES = 1024  # of a GPU
_LISTS = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")


class ProcessMeter:
    """Reads them; keeps until when the use of compute time was read."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._read_to: dict[DeviceID, int] = {}

    def processes(self, devices: Sequence[Device]) -> tuple[DeviceProcess, ...]:
        """Of all of `devices`; nothing of a GPU that does not tell."""
        parts: dict[DeviceID, dict[tuple[str, str], DeviceID]] = {}
        for device in devices:
            if device.parent is not None:
                place = _place(device)
                parts.setdefault(device.parent, {})[place] = device.id
        whole = (device for device in devices if device.parent is None)
        return tuple(p for gpu in whole for p in self._of(gpu, parts.get(gpu.id, {})))

    def _of(
        self, gpu: Device, parts: Mapping[tuple[str, str], DeviceID]
    ) -> Iterator[DeviceProcess]:
        try:
            handle = self._nvml.call("nvmlDeviceGetHandleByUUID", gpu.id)
            found = [one for function in _LISTS for one in self._nvml.ask(function, handle) or ()]
        except LibraryError:
            return
        shares = None if parts else self._shares(gpu, handle) if found else {}
        seen: set[tuple[int, DeviceID]] = set()
        for one in found[:MAX_PROCESSES]:
            place = (str(one.gpuInstanceId), str(one.computeInstanceId))
            device = parts.get(place, gpu.id)
            if (one.pid, device) in seen:  # it computes and draws
                continue
            seen.add((one.pid, device))
            yield DeviceProcess(
                pid=int(one.pid),
                device=device,
                memory_bytes=one.usedGpuMemory,
                utilization_ratio=shares.get(one.pid, 0.0) if shares is not None else None,
            )

    def _shares(self, gpu: Device, handle: Any) -> Mapping[int, float] | None:
        """Each process's part of the compute time since the last time; None where NVML does not
        say, as on a GPU in MIG mode. Without any work there are no samples (NOT_FOUND)."""
        since = self._read_to.get(gpu.id, 0)
        try:
            samples = self._nvml.ask("nvmlDeviceGetProcessUtilization", handle, since)
        except LibraryError:
            return {}
        if samples is None:
            return None
        found: dict[int, list[float]] = {}
        for sample in samples:
            found.setdefault(int(sample.pid), []).append(float(sample.smUtil))
            self._read_to[gpu.id] = max(self._read_to.get(gpu.id, 0), int(sample.timeStamp))
        return {pid: sum(values) / len(values) / 100 for pid, values in found.items()}


def _place(part: Device) -> tuple[str, str]:
    """As processes name it: the numbers of its GPU instance and of its compute instance."""
    attributes = part.attributes
    return attributes.get("gpu_instance", ""), attributes.get("compute_instance", "")
