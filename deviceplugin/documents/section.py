"""The sections of users' documents; loaded where a file has one of them."""

from collections.abc import Mapping
from typing import Any

from deviceplugin.documents import (
    diagnostics,
    maintenance,
    needs,
    operations,
    outlook,
    profiling,
    protection,
    tuning,
)

SECTIONS: Mapping[str, Any] = {
    "ai_scheduler": operations.AiScheduler,
    "auto_optimization": operations.AutoOptimization,
    "compliance": protection.Compliance,
    "compute_optimization": tuning.ComputeOptimization,
    "cost_optimization": operations.CostOptimization,
    "data_protection": protection.DataProtection,
    "deployment": operations.Deployment,
    "diagnostics": diagnostics.Diagnostics,
    "gpu": needs.Gpu,
    "investment_strategy": outlook.InvestmentStrategy,
    "market_outlook": outlook.MarketOutlook,
    "memory_optimization": tuning.MemoryOptimization,
    "network": needs.Network,
    "network_optimization": tuning.NetworkOptimization,
    "optimization": needs.Optimization,
    "performance": needs.Performance,
    "predictive_maintenance": maintenance.PredictiveMaintenance,
    "profiling": profiling.Profiling,
    "realtime": needs.Realtime,
    "resource_planning": operations.ResourcePlanning,
    "security": protection.Security,
    "technology_trends": outlook.TechnologyTrends,
    "workloads": needs.Workloads,
}
