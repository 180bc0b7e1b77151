"""What is told of the daemon's own keys where it is more than that they act; pure."""

import re
from collections.abc import Mapping

from deviceplugin.documents.told import Telling, applied, checked, elsewhere

_DRIVER = checked(
    "the driver of the node is held against the least one for this version, and a label of the node"
    " tells the result"
)
_COMPARED = checked("compared with what the node has")
_RESOURCE = applied("the name of a resource: pods ask for it after the vendor's domain")
_MADE = applied("what is listed is made of each GPU by `deviceplugin provision`")
_ISOLATION = applied("devices of the section in resources that isolate less are not offered")
_ALERT = applied("judged on this node, with `telemetry.enabled`; `deviceplugin alerts render`")
_DASHBOARD = elsewhere("`deviceplugin alerts render` makes Grafana's dashboards of it")
_PER_KEY: Mapping[str, Telling] = {
    "monitoring.enabled": checked("held against metrics_address: empty, nothing is served"),
    "monitoring.metrics": _DASHBOARD,
    "monitoring.dashboards[].name": _DASHBOARD,
    "monitoring.dashboards[].refresh": _DASHBOARD,
    **{f"monitoring.alerts[].{key}": _ALERT for key in ("name", "condition", "for", "severity")},
    "cuda.version": _DRIVER,
    "rocm.version": _DRIVER,
    "gpu_nodes[].gpu_type": _COMPARED,
    "gpu_nodes[].gpu_count": _COMPARED,
    "gpu_nodes[].memory_per_gpu": _COMPARED,
    "mig.instances[].compute_units": checked("compared with the instance's multiprocessors"),
    "mig.instances[].tensor_cores": checked("held against the instance's tensor cores"),
    "vgpu.profiles[].compute_units": checked("held against the multiprocessors of the GPU's sheet"),
    "vgpu.profiles[].tensor_cores": checked("held against the tensor cores of the GPU's sheet"),
    "mxgpu.instances[].compute_units": checked("held against the compute units of the GPU"),
    "mxgpu.instances[].rocm_cores": checked("held against the SIMD units of the GPU"),
    **{
        f"{section}.{key}": _MADE
        for section in ("mig", "mxgpu", "intel_xe")
        for key in ("provision", "instances[].count")
    },
    "mig.instances[].name": _RESOURCE,
    "mxgpu.instances[].name": _RESOURCE,
    "intel_xe.instances[].name": _RESOURCE,
    "mig.scheduling.isolation": _ISOLATION,
    "vgpu.scheduling.isolation": _ISOLATION,
    "mxgpu.scheduling.isolation": _ISOLATION,
    "intel_xe.scheduling.isolation": _ISOLATION,
    "vgpu.profiles[].name": applied("NVIDIA_VGPU_PROFILE in containers"),
    "vgpu.profiles[].memory": applied("NVIDIA_VGPU_MEMORY in containers"),
    "intel_xe.instances[].memory": applied("the size that has this name; INTEL_XE_MEMORY"),
    "intel_xe.instances[].compute_units": checked(
        "INTEL_XE_COMPUTE_UNITS in containers; held against the Xe-cores of the GPU's sheet"
    ),
    "intel_xe.instances[].execution_units": checked(
        "held against the vector engines of the GPU's sheet"
    ),
    "cuda.runtime.memory_pool": applied("CUDA_MEMORY_POOL=true in containers"),
    "cuda.runtime.unified_memory": applied("CUDA_UNIFIED_MEMORY=true in containers"),
    "cuda.runtime.memory_compression": applied("CUDA_MEMORY_COMPRESSION=true in containers"),
    "rocm.runtime.memory_pool": applied("HIP_MEM_POOL_SUPPORT and ROCM_MEMORY_POOL in containers"),
    "rocm.runtime.unified_memory": applied("ROCM_UNIFIED_MEMORY and HSA_XNACK in containers"),
    "oneapi.runtime.memory_pool": applied("ONEAPI_MEMORY_POOL=true in containers"),
    "oneapi.runtime.unified_memory": applied("ONEAPI_UNIFIED_MEMORY=true in containers"),
}
_INDEX = re.compile(r"\[\d+\]")


def telling_of(key: str, otherwise: Telling) -> Telling:
    """What is told of a key such as `mig.instances[0].name`."""
    return _PER_KEY.get(_INDEX.sub("[]", key), otherwise)
