"""Sections that tune memory, compute and network; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from deviceplugin.documents.needs import Precision
from deviceplugin.documents.told import (
    ON,
    Ratio,
    Telling,
    Told,
    Words,
    applied,
    checked,
    elsewhere,
    reported,
)
from deviceplugin.schema import Size, parse_bytes

_SCRAPED = elsewhere("/metrics of the daemon and the vendors' exporters; alerts are Prometheus'")
_KERNELS = reported("the workload's own framework decides it; a device plugin has no switch for it")


class Monitoring(Told, frozen=True):
    """What a section would have measured."""

    OTHERS: ClassVar[Telling] = _SCRAPED

    enabled: bool = True
    metrics: Words = ()


class MemorySettings(Told, frozen=True):
    """Sizes of memory."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "pool_size": checked(
                "held against the memory of each GPU; a pod asks for its part as"
                " nvidia.com/gpu-memory in GiB, which `rules` with `memory: {}` offer"
            ),
            "compression_ratio": reported("no driver has a ratio to set; the hardware decides"),
            "prefetch_size": checked(
                "held against the memory of each GPU; the workload's own calls prefetch"
                " (cudaMemPrefetchAsync)"
            ),
            "eviction_policy": reported("the driver decides what of unified memory it moves"),
        }
    )

    pool_size: Size | None = None
    compression_ratio: Ratio | None = None
    prefetch_size: Size | None = None
    eviction_policy: Literal["lru", "lfu", "fifo"] | None = None

    def __post_init__(self) -> None:
        """Check the sizes where msgspec can still tell the key's path."""
        for key in ("pool_size", "prefetch_size"):
            if (value := getattr(self, key)) is not None:
                try:
                    parse_bytes(value)
                except ValueError as error:
                    raise ValueError(f"{key}: a size above zero such as 16GiB") from error


class MemoryOptimization(Told, frozen=True):
    """The section `memory_optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "techniques": applied(
                "variables in containers: memory_pooling the vendors' runtime.memory_pool,"
                " unified_memory their runtime.unified_memory, memory_compression"
                " CUDA_MEMORY_COMPRESSION; memory_prefetching is the workload's own"
            ),
        }
    )

    enabled: bool = True
    techniques: tuple[
        Literal["memory_pooling", "unified_memory", "memory_compression", "memory_prefetching"], ...
    ] = ()
    settings: MemorySettings | None = None
    monitoring: Monitoring | None = None


class ComputeSettings(Told, frozen=True):
    """What kernels should use."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "tensor_cores": checked("held against the compute capability of each GPU, 7.0 or more"),
            "precision": checked("held against what the GPU's generation computes with"),
        }
    )
    OTHERS: ClassVar[Telling] = _KERNELS

    tensor_cores: bool = False
    precision: Precision | None = None
    fusion_enabled: bool = False
    scheduling_policy: Literal["dynamic", "static"] | None = None


class ComputeOptimization(Told, frozen=True):
    """The section `compute_optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType({"enabled": ON})
    OTHERS: ClassVar[Telling] = _KERNELS

    enabled: bool = True
    techniques: tuple[
        Literal["tensor_cores", "mixed_precision", "kernel_fusion", "compute_scheduling"], ...
    ] = ()
    settings: ComputeSettings | None = None
    monitoring: Monitoring | None = None


class NetworkSettings(Told, frozen=True):
    """How GPUs and networks should meet."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "rdma_enabled": checked("held against the RDMA devices of the node"),
            "gpu_direct": checked("held against the kernel's modules: nvidia_peermem, or dma-buf"),
            "compression_ratio": elsewhere("the collective library's own; none has a ratio to set"),
            "load_balancing": elsewhere("the cluster's Service or mesh: deploy/mesh"),
        }
    )

    rdma_enabled: bool = False
    gpu_direct: bool = False
    compression_ratio: Ratio | None = None
    load_balancing: str | None = None


class NetworkOptimization(Told, frozen=True):
    """The section `network_optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "techniques": applied(
                "rdma and gpu_direct: scheduling.policy: proximity, where scheduling.proximity_to"
                " names a device and no policy is given; the others are the network's"
            ),
        }
    )

    enabled: bool = True
    techniques: tuple[
        Literal["rdma", "gpu_direct", "network_compression", "load_balancing"], ...
    ] = ()
    settings: NetworkSettings | None = None
    monitoring: Monitoring | None = None
