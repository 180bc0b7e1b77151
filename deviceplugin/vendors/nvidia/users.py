"""Which processes are on a GPU, by its MIG instances, as NVML names them."""

from collections.abc import Mapping, Sequence
from typing import Any

from deviceplugin.vendors.nvidia.library import Nvml

NO_INSTANCE = 0xFFFFFFFF
# The newest form of each that the library has; the first two name MIG instances.
_COMPUTE, _GRAPHICS = (
    [f"nvmlDeviceGet{kind}RunningProcesses_v{version}" for version in (3, 2)]
    for kind in ("Compute", "Graphics")
)
_UNNAMED = "processes that this driver does not name"


def read_users(nvml: Nvml, gpu: Any) -> Mapping[int, list[str]]:
    """Processes by GPU instance; those of the GPU as a whole under NVML's number for none."""
    compute, graphics = _processes(nvml, gpu, _COMPUTE), _processes(nvml, gpu, _GRAPHICS)
    if compute is None:
        return {NO_INSTANCE: [_UNNAMED]}
    found: dict[int, list[str]] = {}
    for process in (*compute, *(graphics or ())):
        instance = getattr(process, "gpuInstanceId", None)
        key = NO_INSTANCE if instance is None else int(instance)
        found.setdefault(key, []).append(f"process {int(process.pid)}")
    return found


def _processes(nvml: Nvml, gpu: Any, functions: Sequence[str]) -> Sequence[Any] | None:
    for function in functions:
        found = nvml.ask(function, gpu)
        if found is not None:
            return list(found)
    return None
