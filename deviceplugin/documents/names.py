"""The names of the sections of users' documents, without their schemas; pure."""

# Sections of vendors whose instances can be asked to be made.
LISTS = frozenset({"mig", "mxgpu", "intel_xe"})
# A start whose files have none of these does not load the schemas.
NAMES = frozenset(
    {"ai_scheduler", "auto_optimization", "compliance", "compute_optimization"}
    | {"cost_optimization", "data_protection", "deployment", "diagnostics", "gpu"}
    | {"investment_strategy", "market_outlook", "memory_optimization", "network"}
    | {"network_optimization", "optimization", "performance", "predictive_maintenance"}
    | {"profiling", "realtime", "resource_planning", "security", "technology_trends", "workloads"}
)
