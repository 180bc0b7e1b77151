"""Sections about monitoring, diagnostics, schedulers and planning; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from deviceplugin.documents.told import (
    ON,
    Percent,
    Telling,
    Time,
    Told,
    Words,
    applied,
    checked,
    elsewhere,
    reported,
)

_HEALTH = "`deviceplugin health` tells faults, the section health which of them count"
_NOTHING_LEARNS = elsewhere(
    "a device plugin learns nothing; `deviceplugin scheduler` does, for all nodes"
)
_REPLAYS = reported("no model is loaded: a saving is a replay of the history")
_PLANNING = elsewhere("planning is done over the metrics of all nodes, not on one of them")


class Training(Told, frozen=True):
    """How a scheduler learns."""

    OTHERS: ClassVar[Telling] = _NOTHING_LEARNS

    interval: Time | None = None
    data_retention: Time | None = None
    model_version: str | None = None


class Inference(Told, frozen=True):
    """How a scheduler answers."""

    OTHERS: ClassVar[Telling] = _NOTHING_LEARNS

    batch_size: int | None = None
    timeout: Time | None = None
    fallback: str | None = None


class AiScheduler(Told, frozen=True):
    """The section `ai_scheduler`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType({"enabled": ON})
    OTHERS: ClassVar[Telling] = _NOTHING_LEARNS

    enabled: bool = True
    model: str | None = None
    features: Words = ()
    training: Training | None = None
    inference: Inference | None = None


class AutoOptimization(Told, frozen=True):
    """The section `auto_optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "model": _REPLAYS,
            "features": elsewhere("`deviceplugin fleet advice` over the history of all nodes"),
            "optimizations": applied(
                "by `deviceplugin fleet advice`, which names these alone: memory_allocation sizes,"
                " compute_scheduling sharing, layouts and idle GPUs, power_management caps,"
                " thermal_management heat"
            ),
            "targets": reported(
                "`deviceplugin fleet advice` has what frees or saves most first; performance and"
                " reliability are no numbers of a bill"
            ),
        }
    )

    enabled: bool = True
    model: str | None = None
    features: Words = ()
    optimizations: Words = ()
    targets: Words = ()


class Planning(Told, frozen=True):
    """How far a plan looks."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "horizon": applied("by `deviceplugin fleet plan`: at most 30d"),
            "granularity": applied("by `deviceplugin fleet plan`: whole hours"),
            "accuracy": applied(
                "`deviceplugin fleet plan` answers with the accuracy that it measured at each"
                " horizon; it promises none"
            ),
        }
    )

    horizon: Time | None = None
    granularity: Time | None = None
    accuracy: Percent | None = None


class ResourcePlanning(Told, frozen=True):
    """The section `resource_planning`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "model": reported("no model is loaded: forecasts are made of the fleet's own history"),
            "features": elsewhere(
                "workload_prediction and capacity_planning are `deviceplugin fleet plan`, cost is"
                " `fleet budget`; performance is not predicted"
            ),
            "recommendations": applied(
                "by `deviceplugin fleet plan`, which plans these alone: gpu_allocation,"
                " memory_allocation, network_allocation, storage_allocation"
            ),
        }
    )

    enabled: bool = True
    model: str | None = None
    features: Words = ()
    planning: Planning | None = None
    recommendations: Words = ()


class CostOptimization(Told, frozen=True):
    """The section `cost_optimization`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "model": _REPLAYS,
            "features": elsewhere(
                "usage_analysis is `deviceplugin fleet cost`, cost_prediction and budget_management"
                " `fleet budget`, optimization_recommendations `fleet advice`"
            ),
            "optimization": applied(
                "by `deviceplugin fleet advice`, which names these alone: resource_rightsizing"
                " sizes and idle GPUs, scheduling_optimization sharing and layouts,"
                " power_management caps and heat; maintenance_scheduling is no advice about cost"
            ),
            "targets": applied(
                "by `deviceplugin fleet targets`: cost_reduction, efficiency_improvement and"
                " waste_reduction are answered by the bill before and after what was applied"
            ),
        }
    )

    enabled: bool = True
    model: str | None = None
    features: Words = ()
    optimization: Words = ()
    targets: Words = ()


class Deployment(Told, frozen=True):
    """The section `deployment`: practices, held against how the daemon is deployed."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "strategy": reported(
                "one daemon serves a node: its DaemonSet is updated node by node (RollingUpdate),"
                " blue and green cannot be"
            ),
            "rollback": elsewhere("`kubectl rollout undo`, or whoever deploys"),
            "health_checks": checked(
                "held against metrics_address: the probes of deploy/ ask /healthz and /readyz"
            ),
            "resource_limits": checked(
                "held against the limits of the cgroup that the daemon runs in"
            ),
        }
    )

    strategy: Literal["blue_green", "rolling", "canary", "recreate"] | None = None
    rollback: Literal["automatic", "manual"] | None = None
    health_checks: Literal["enabled", "disabled"] | None = None
    resource_limits: Literal["enforced", "none"] | None = None
