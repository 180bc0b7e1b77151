"""Practices and protection held against how the daemon runs and what the driver tells; pure.

The report has, besides that of `discover`, what no vendor tells: `metrics_address` and `log_level`
of the configuration, and `host` (rdma, peer_memory, limits, account).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deviceplugin.documents.outcome import LEVELS, Outcome, each
from deviceplugin.documents.walk import Entry

Report = Mapping[str, Any]
_INVALID = Outcome(None, "the configuration is not valid")
_SCRUBBING = "memory scrubbing: unknown, no driver tells it"


def _endpoint(_: Entry, report: Report) -> Outcome:
    address = report.get("metrics_address")
    if address is None:
        return _INVALID
    return Outcome(bool(address), str(address) or "metrics_address is empty")


def _limits(_: Entry, report: Report) -> Outcome:
    limits = report["host"]["limits"]
    if not limits:
        return Outcome(None, "this process is in no cgroup that tells")
    return each(limits, "")


def _account(_: Entry, report: Report) -> Outcome:
    account = report["host"]["account"]
    if account is None:
        return Outcome(True, "no account is mounted: no right at the API server")
    return Outcome(None, f"the account of namespace {account}; its roles are the cluster's to tell")


def _rdma(_: Entry, report: Report) -> Outcome:
    found = report["host"]["rdma"]
    near = (f"{name} ({how})" if how else name for name, how in found.items())
    return Outcome(bool(found), ", ".join(near) or "no RDMA device")


def _peer_memory(_: Entry, report: Report) -> Outcome:
    loaded = report["host"]["peer_memory"]
    if loaded:
        return Outcome(True, f"{', '.join(loaded)} is loaded")
    return Outcome(None, "no module for it is loaded; by dma-buf it works without")


def _mechanisms(_: Entry, report: Report) -> Outcome:
    levels = {
        name: LEVELS.index(str(shared["isolation"])) >= LEVELS.index("memory")
        for name, shared in report["sharing"].items()
    }
    found = each(levels, "no resource is offered")
    told = (f"ECC: {_told(report, 'ecc')}", _encryption_text(report), _SCRUBBING)
    return Outcome(found.met, "; ".join((found.measured, *told)))


def _encryption(_: Entry, report: Report) -> Outcome:
    """Of GPU memory; `devtools` lets debuggers read it."""
    modes = {device["attributes"].get("confidential_computing") for device in report["devices"]}
    met = None if not modes - {None} else modes == {"on"}
    return Outcome(met, _encryption_text(report))


def _encryption_text(report: Report) -> str:
    return f"confidential computing: {_told(report, 'confidential_computing')}"


def _told(report: Report, name: str) -> str:
    """What the GPUs say, all values that there are."""
    wholes = [device for device in report["devices"] if not device["parent"]]
    return ", ".join(sorted({d["attributes"].get(name, "unknown") for d in wholes})) or "no GPU"


HOLDS: Sequence[tuple[str, Callable[[Entry, Report], Outcome]]] = (
    ("gpu.monitoring", _endpoint),
    ("monitoring.enabled", _endpoint),
    ("deployment.health_checks", _endpoint),
    ("deployment.resource_limits", _limits),
    ("security.access_control", _account),
    ("security.encryption", _encryption),
    ("security.encryption.enabled", _encryption),
    ("data_protection.encryption.in_use", _encryption),
    ("*.rdma_enabled", _rdma),
    ("*.gpu_direct", _peer_memory),
    ("security.isolation.mechanisms", _mechanisms),
)
