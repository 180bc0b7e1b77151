"""Sections that say what workloads need and what the hardware should give; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from deviceplugin.documents.told import (
    KEPT,
    ON,
    Flops,
    Percent,
    Rate,
    Telling,
    Time,
    Told,
    applied,
    checked,
    elsewhere,
    reported,
)
from deviceplugin.schema import Size, parse_bytes

Capability = Annotated[
    str,
    Meta(pattern=r"^[0-9]{1,2}\.[0-9]\+?$", description='a compute capability such as "8.0+"'),
]
Precision = Literal["FP64", "FP32", "TF32", "FP16", "BF16", "FP8", "INT8", "FP4", "INT4"]
_CLASS = checked("`--node` tells which resources of the node satisfy the class")
_BANDWIDTH = checked("held against the memory bandwidth of the GPU's data sheet")
_THROUGHPUT = checked("held against the FP16 throughput of the GPU's data sheet")
_LATENCY = elsewhere(
    "the time of an allocation is measured by the daemon (deviceplugin_rpc_duration_seconds);"
    " the time of a kernel is the workload's own"
)
_IN_WORKLOAD = "the workload's own framework decides it; a device plugin has no switch for it"


class Workload(Told, frozen=True):
    """What a class of workloads asks of its GPU."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {"power_efficiency": reported("no GPU reports how efficient it is; the class is kept")}
    )
    OTHERS: ClassVar[Telling] = _CLASS

    gpu_memory: Size | None = None
    compute_capability: Capability | None = None
    tensor_cores: bool = False
    precision: Precision | None = None
    power_efficiency: bool = False

    def __post_init__(self) -> None:
        """Check the memory where msgspec can still tell the key's path."""
        if self.gpu_memory is not None:
            try:
                parse_bytes(self.gpu_memory)
            except ValueError as error:
                raise ValueError("gpu_memory: a size above zero such as 5GiB") from error


class Workloads(Told, frozen=True):
    """The section `workloads`."""

    training: Workload | None = None
    inference: Workload | None = None
    edge_inference: Workload | None = None


class Performance(Told, frozen=True):
    """The section `performance`: targets, and practices of that name."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "memory_bandwidth": _BANDWIDTH,
            "compute_throughput": _THROUGHPUT,
            "latency_target": _LATENCY,
            "optimization": reported(_IN_WORKLOAD),
            "scaling": elsewhere("the workload's Deployment or HorizontalPodAutoscaler"),
            "load_balancing": elsewhere("the cluster's Service or mesh: deploy/mesh"),
            "caching": reported(_IN_WORKLOAD),
        }
    )

    memory_bandwidth: Rate | None = None
    compute_throughput: Flops | None = None
    latency_target: Time | None = None
    optimization: Literal["automatic", "manual"] | None = None
    scaling: Literal["horizontal", "vertical"] | None = None
    load_balancing: str | None = None
    caching: Literal["enabled", "disabled"] | None = None


class Optimization(Told, frozen=True):
    """The section `optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "memory_pool": applied(
                "CUDA_MEMORY_POOL, HIP_MEM_POOL_SUPPORT and ROCM_MEMORY_POOL, ONEAPI_MEMORY_POOL"
                " in containers, where the vendor's runtime section does not say otherwise"
            ),
            "compute_scheduling": reported(_IN_WORKLOAD),
            "cache_optimization": reported(_IN_WORKLOAD),
        }
    )

    memory_pool: bool = False
    compute_scheduling: Literal["dynamic", "static"] | None = None
    cache_optimization: bool = False


class Network(Told, frozen=True):
    """The section `network`: what connects the node."""

    OTHERS: ClassVar[Telling] = elsewhere(
        "the node's network gives it; `gpu.edge_nodes[].network_interface` names its interface"
    )

    type: str | None = None
    bandwidth: Rate | None = None
    latency: Time | None = None
    reliability: Percent | None = None


class EdgeNode(Told, frozen=True):
    """A node at the edge; only the entry with the name of the node acts."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "name": applied("the entry acts on the node of this name"),
            "gpu_type": checked("compared with the products that are found"),
            "network_interface": applied(
                "scheduling.proximity_to on the node of this name: GPUs near the interface first"
            ),
        }
    )

    name: str
    location: str | None = None
    gpu_type: str | None = None
    network_interface: str | None = None


class EdgeScheduling(Told, frozen=True):
    """How edge nodes choose GPUs."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "policy": applied("scheduling.policy on the nodes of `gpu.edge_nodes`"),
            "latency_target": _LATENCY,
        }
    )

    policy: str | None = None
    latency_target: Time | None = None


class Gpu(Told, frozen=True):
    """The section `gpu`: edge nodes, targets of real-time work, and practices of that name."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "memory_bandwidth": _BANDWIDTH,
            "compute_throughput": _THROUGHPUT,
            "tensor_cores": checked("held against the compute capability of each GPU, 7.0 or more"),
            "allocation": reported(
                "the kubelet gives GPUs to pods as they ask, which is `dynamic`"
            ),
            "isolation": checked("held against the isolation of each resource that is offered"),
            "monitoring": checked("held against metrics_address: /metrics is served all the time"),
            "backup": elsewhere(
                "a GPU holds nothing to keep; volumes are backed up by the cluster"
            ),
        }
    )

    edge_nodes: tuple[EdgeNode, ...] = ()
    scheduling: EdgeScheduling | None = None
    memory_bandwidth: Rate | None = None
    compute_throughput: Flops | None = None
    tensor_cores: bool = False
    allocation: Literal["dynamic", "static"] | None = None
    isolation: Literal["none", "memory", "process", "hardware"] | None = None
    monitoring: Literal["continuous", "none"] | None = None
    backup: Literal["automated", "manual", "none"] | None = None


class Realtime(Told, frozen=True):
    """The section `realtime`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": applied("scheduling.policy: real_time, where no policy is given"),
            "latency_target": _LATENCY,
            "throughput_target": elsewhere("it is the workload's, which alone counts its frames"),
            "reliability": elsewhere("the cluster's: replicas of the workload"),
        }
    )

    enabled: bool = True
    latency_target: Time | None = None
    throughput_target: (
        Annotated[
            str, Meta(pattern=r"^[0-9.]+ ?fps$", description="frames a second such as 1000fps")
        ]
        | None
    ) = None
    reliability: Percent | None = None


__all__ = ["KEPT", "ON", "Gpu", "Network", "Optimization", "Performance", "Realtime", "Workloads"]
