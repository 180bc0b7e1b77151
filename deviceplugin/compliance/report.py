"""The report of a standard as a document; pure."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deviceplugin.compliance.controls import STANDARDS, Control
from deviceplugin.compliance.evidence import Facts, Finding, Verdict, findings

FORMAT = 1
_ABOUT = (
    "Evidence for an auditor, collected by the daemon of one node. It does not say that an"
    " organisation complies: controls, their scope and their judgement are the organisation's."
)
Document = dict[str, Any]


def report(standard: str, facts: Facts, themes: Collection[str]) -> Document:
    """The document; `sha256` is that of everything else in it, with sorted keys."""
    hashes = _hashes(facts)
    found = [one for one in findings(facts) if one.theme in themes]
    controls = [_control(one, found, hashes) for one in STANDARDS[standard].controls]
    document: Document = {
        "format": FORMAT,
        "standard": standard,
        "title": STANDARDS[standard].title,
        "about": _ABOUT,
        "node": facts.node,
        "taken_at": time_text(facts.taken_at),
        "since": facts.since,
        "sources": hashes,
        "violations": list(_violations(controls)),
        "controls": [one for one in controls if one["evidence"] or one["gaps"]],
    }
    return {**document, "sha256": digest(document)}


def digest(document: Mapping[str, Any]) -> str:
    """Of a document, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def time_text(seconds: float) -> str:
    """Unix seconds as RFC 3339 has them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sources_of(facts: Facts) -> Mapping[str, Mapping[str, Any]]:
    """The documents that the evidence was read from, besides the audit log."""
    return {
        "configuration": facts.configuration,
        "diagnosis": facts.diagnosis,
        "discover": facts.discover,
    }


def _hashes(facts: Facts) -> Mapping[str, str]:
    """Of each document; of the audit log, its last record's."""
    found = {name: digest(one) for name, one in sources_of(facts).items()}
    return {**found, **({"audit": facts.audit.last} if facts.audit is not None else {})}


def _control(control: Control, found: Sequence[Finding], hashes: Mapping[str, str]) -> Document:
    ours = [one for theme in control.themes for one in found if one.theme == theme]
    return {
        "id": control.id,
        "title": control.title,
        "evidence": [_shown(one, hashes) for one in ours if one.verdict is not Verdict.GAP],
        "gaps": [one.text for one in ours if one.verdict is Verdict.GAP],
    }


def _shown(finding: Finding, hashes: Mapping[str, str]) -> Document:
    return {
        "verdict": finding.verdict.value,
        "text": finding.text,
        "source": finding.source,
        "sha256": hashes.get(finding.source, ""),
    }


def _violations(controls: Sequence[Document]) -> Iterator[Document]:
    """Each once, with all controls that it is about."""
    found: dict[str, list[str]] = {}
    for control in controls:
        for one in control["evidence"]:
            if one["verdict"] == Verdict.VIOLATION:
                found.setdefault(one["text"], []).append(control["id"])
    for text, ids in found.items():
        yield {"text": text, "controls": ids}
