"""What a node shows of each theme: evidence, gaps said plainly, and violations; pure.

Each is worded as evidence for an auditor. Whether an organisation complies no node can say.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from deviceplugin.compliance import controls

Document = Mapping[str, Any]


class Verdict(StrEnum):
    """A `gap` is what the node cannot evidence."""

    EVIDENCE = "evidence"
    GAP = "gap"
    VIOLATION = "violation"


class Finding(Struct, frozen=True, kw_only=True):
    """What was found for a theme; `source` names the document that it was read from."""

    theme: str
    verdict: Verdict
    text: str
    source: str


class AuditFacts(Struct, frozen=True, kw_only=True):
    """What the audit log is; `kinds` counts the records of the period, `last` is the hash of the
    log's last record."""

    records: int = 0
    lost: int = 0
    last: str = ""
    problems: Sequence[str] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)


class Facts(Struct, frozen=True, kw_only=True):
    """What was looked at: documents of the node's own commands, None where there is none.

    `audit` is None where no log is kept. `encrypted` says whether the metrics endpoint uses TLS,
    None where there is no endpoint."""

    node: str
    taken_at: float
    since: str
    version: str
    configuration: Document
    diagnosis: Document
    discover: Document
    audit: AuditFacts | None = None
    audit_problem: str = ""
    retention: str = ""
    encrypted: bool | None = None


def findings(facts: Facts) -> Sequence[Finding]:
    """All of them, by theme."""
    makers = (_access, _encryption, _residual, _audit, _integrity, _versions, _incidents, _healthy)
    return [finding for make in makers for finding in make(facts)]


def _evidence(theme: str, text: str, source: str) -> Finding:
    return Finding(theme=theme, verdict=Verdict.EVIDENCE, text=text, source=source)


def _gap(theme: str, text: str, source: str = "") -> Finding:
    return Finding(theme=theme, verdict=Verdict.GAP, text=text, source=source)


def _violation(theme: str, text: str, source: str) -> Finding:
    return Finding(theme=theme, verdict=Verdict.VIOLATION, text=text, source=source)


def _access(facts: Facts) -> Iterator[Finding]:
    theme = controls.ACCESS
    shared = facts.discover["sharing"]
    for name in sorted(shared):
        text = f"containers with {name} are kept apart by: {shared[name]['isolation']}"
        yield _evidence(theme, text, "discover")
    if not shared:
        yield _gap(theme, "no resource is offered, so nothing shows how containers are kept apart")
    yield from _checked(facts, theme, "processes", "use of a GPU by processes")
    kinds = _kinds(facts)
    if kinds is None:
        yield _gap(theme, "no audit log: nothing shows who was given which GPU")
        return
    given, refused = kinds.get("allocation.granted", 0), kinds.get("allocation.refused", 0)
    claims = kinds.get("claim.prepared", 0)
    text = f"in the period {given} allocations and {claims} claims were granted, {refused} refused"
    yield _evidence(theme, text, "audit")
    if found := kinds.get("access.bypass", 0):
        text = f"in the period a GPU was in use {found} times by who it was not allocated to"
        yield _violation(theme, text, "audit")
    yield _gap(theme, "who may create pods is in the cluster's RBAC, which a node does not read")


def _encryption(facts: Facts) -> Iterator[Finding]:
    theme = controls.ENCRYPTION
    if facts.encrypted is None:
        yield _evidence(theme, "the daemon serves no metrics to the network", "configuration")
    elif facts.encrypted:
        yield _evidence(theme, "the daemon's metrics endpoint uses TLS", "configuration")
    else:
        text = "the daemon's metrics endpoint can be reached from the network without TLS"
        yield _violation(theme, text, "configuration")
    for device in _wholes(facts):
        mode = device["attributes"].get("confidential_computing")
        subject = f"memory of {device['id']}: confidential computing"
        if mode == "on":
            yield _evidence(theme, f"{subject} is on", "discover")
        else:
            yield _gap(theme, f"{subject} is {mode or 'told by no driver'}", "discover")
    yield _gap(theme, "traffic of the workloads and their volumes: the mesh and the storage class")


def _residual(facts: Facts) -> Iterator[Finding]:
    kinds = _kinds(facts)
    if kinds:
        gone = kinds.get("partition.gone", 0)
        text = f"{gone} partitions were removed in the period; each is a record"
        yield _evidence(controls.RESIDUAL, text, "audit")
    text = "no driver tells whether a GPU's memory is cleared between two containers"
    yield _gap(controls.RESIDUAL, text)


def _audit(facts: Facts) -> Iterator[Finding]:
    theme, log = controls.AUDIT, facts.audit
    if log is None:
        yield _violation(theme, facts.audit_problem, "configuration")
    else:
        yield from _log(log, facts.retention)
    yield from _checked(facts, theme, "host_clock", "the clock of the node")
    yield _gap(theme, "what people do is in the API server's audit log, which a node does not read")


def _log(log: AuditFacts, retention: str) -> Iterator[Finding]:
    theme = controls.AUDIT
    if log.problems:
        text = f"the audit log is not whole: {'; '.join(log.problems[:3])}"
        yield _violation(theme, text, "audit")
    else:
        text = f"the audit log is whole: {log.records} records, the last has the hash {log.last}"
        yield _evidence(theme, text, "audit")
    if log.lost:
        yield _violation(theme, f"{log.lost} records of the audit log were lost", "audit")
    yield _evidence(theme, f"the audit log is kept for {retention}", "configuration")


def _integrity(facts: Facts) -> Iterator[Finding]:
    theme, kinds = controls.INTEGRITY, _kinds(facts)
    yield _evidence(theme, f"deviceplugin {facts.version} is in use", "configuration")
    if kinds is None:
        yield _gap(theme, "no audit log: changes of the configuration are not recorded")
    else:
        changes = kinds.get("configuration.changed", 0)
        text = f"{changes} changes of the configuration in the period; each is a record"
        yield _evidence(theme, text, "audit")
    yield from _checked(facts, theme, "driver", "the driver")
    yield _gap(theme, "who changed the configuration is in the API server's audit log")


def _versions(facts: Facts) -> Iterator[Finding]:
    theme = controls.VULNERABILITIES
    for vendor in facts.discover["vendors"]:
        if version := vendor.get("driver_version"):
            yield _evidence(theme, f"driver of {vendor['name']}: {version}", "discover")
    text = "whether a version has a known vulnerability: no list of them is on the node"
    yield _gap(theme, text)


def _incidents(facts: Facts) -> Iterator[Finding]:
    theme, kinds = controls.INCIDENTS, _kinds(facts)
    if kinds is None:
        yield _gap(theme, "no audit log: faults of the past are not recorded")
    else:
        faults, orders = kinds.get("health.fault", 0), kinds.get("cordon.set", 0)
        text = f"{faults} faults of GPUs and {orders} cordons in the period; each is a record"
        yield _evidence(theme, text, "audit")
    yield _gap(theme, "who was told, and what they did: the organisation's own records")


def _healthy(facts: Facts) -> Iterator[Finding]:
    theme = controls.AVAILABILITY
    whole = _wholes(facts)
    well = sum(device["health"] == "Healthy" for device in whole)
    yield _evidence(theme, f"{well} of {len(whole)} GPUs are Healthy", "discover")
    yield _gap(theme, "redundancy and plans for recovery: the cluster's and the organisation's")


def _checked(facts: Facts, theme: str, check: str, what: str) -> Iterator[Finding]:
    """The results of a check of `diagnose`; one that fails violates what the theme asks."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in facts.diagnosis["checks"]:
        if one["check"] == check:
            found.setdefault((one["verdict"], one["value"]), []).append(one["subject"])
    for (verdict, value), subjects in found.items():
        where = f"{len(subjects)} of them" if len(subjects) > 1 else subjects[0]
        make = {"pass": _evidence, "fail": _violation}.get(verdict, _gap)
        yield make(theme, f"{what} ({where}): {value}", "diagnosis")


def _kinds(facts: Facts) -> Mapping[str, int] | None:
    return facts.audit.kinds if facts.audit is not None else None


def _wholes(facts: Facts) -> Sequence[Document]:
    return [device for device in facts.discover["devices"] if not device["parent"]]
