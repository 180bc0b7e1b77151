"""What users' documents ask for in the daemon's own keys; pure.

A key that the configuration has itself is never replaced.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Raw = dict[str, Any]
_RUNTIMES = ("cuda", "rocm", "oneapi")
_TECHNIQUES = {"memory_pooling": "memory_pool", "unified_memory": "unified_memory"}


def translated(raw: Raw, node_name: str, known: Collection[str]) -> Raw:
    """The configuration with the daemon's own keys for what its documents ask; `known` are the
    sections that there are."""
    for path, value in _asked(raw, node_name):
        if path.partition(".")[0] in known:
            raw = _with(raw, path.split("."), value)
    return raw


def _asked(raw: Raw, node_name: str) -> Iterator[tuple[str, Any]]:
    """Each path of a key with its value; of one path the first counts."""
    yield from _edge(raw, node_name)
    if "realtime" in raw and _at(raw, "realtime.enabled") is not False:
        yield "scheduling.policy", "real_time"
    isolation = _at(raw, "security.isolation")
    if isinstance(isolation, Mapping) and isolation.get("enabled") is not False:
        yield "isolation", isolation.get("level", "hardware")
    yield from _runtimes(raw)
    yield from _audit(raw)
    if isinstance(_at(raw, "profiling"), Mapping) and _at(raw, "profiling.enabled") is not False:
        yield "telemetry.enabled", True
    asked = {*_techniques(raw, "network_optimization")} & {"rdma", "gpu_direct"}
    if asked and _at(raw, "scheduling.proximity_to"):
        yield "scheduling.policy", "proximity"


def _edge(raw: Raw, node_name: str) -> Iterator[tuple[str, Any]]:
    nodes = _at(raw, "gpu.edge_nodes")
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, Mapping) and node.get("name") == node_name:
            if policy := _at(raw, "gpu.scheduling.policy"):
                yield "scheduling.policy", policy
            if interface := node.get("network_interface"):
                yield "scheduling.proximity_to", interface


def _audit(raw: Raw) -> Iterator[tuple[str, Any]]:
    audit = _at(raw, "data_protection.audit")
    if isinstance(audit, Mapping) and audit.get("enabled") is not False:
        yield "audit.enabled", True
        if audit.get("retention") is not None:
            yield "audit.retention", audit["retention"]
    if _at(raw, "security.audit_logging") == "enabled":
        yield "audit.enabled", True


def _runtimes(raw: Raw) -> Iterator[tuple[str, Any]]:
    techniques = _techniques(raw, "memory_optimization")
    switches = {_TECHNIQUES[name] for name in techniques if name in _TECHNIQUES}
    if _at(raw, "optimization.memory_pool") is True:
        switches.add("memory_pool")
    for switch in sorted(switches):
        for section in _RUNTIMES:
            yield f"{section}.runtime.{switch}", True
    if "memory_compression" in techniques:
        yield "cuda.runtime.memory_compression", True


def _techniques(raw: Raw, section: str) -> list[str]:
    found = _at(raw, f"{section}.techniques")
    if _at(raw, f"{section}.enabled") is False or not isinstance(found, list):
        return []
    return [name for name in found if isinstance(name, str)]


def _at(raw: Raw, path: str) -> Any:
    found: Any = raw
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _with(raw: Raw, path: list[str], value: Any) -> Raw:
    """A copy with the value, where the place is free and what is above it are mappings."""
    head, *rest = path
    inner = raw.get(head)
    if not rest:
        return raw if inner is not None else {**raw, head: value}
    if inner is not None and not isinstance(inner, dict):
        return raw
    return {**raw, head: _with(inner or {}, rest, value)}
