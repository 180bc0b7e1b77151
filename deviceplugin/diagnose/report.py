"""A diagnosis as a document, as a table and as JUnit; pure."""

import html
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from deviceplugin.diagnose.judge import ORDER, counted, diagnose, worst
from deviceplugin.diagnose.model import Result, Snapshot, Verdict
from deviceplugin.runtime.tables import table

Document = dict[str, Any]
_TO_LOOK_AT = (Verdict.FAIL, Verdict.WARN)
FORMAT = 1
_SHOWN = frozenset({Verdict.FAIL, Verdict.WARN})


def diagnosis(snapshot: Snapshot) -> Document:
    """The document of a snapshot: every result, and what they amount to."""
    return document_of(snapshot.node_name, snapshot.taken_at, diagnose(snapshot))


def document_of(node: str, taken_at: float, results: Sequence[Result]) -> Document:
    """The document of results; `taken_at` in Unix seconds."""
    return {
        "format": FORMAT,
        "node": node,
        "taken_at": _time(taken_at),
        "verdict": worst(results),
        "counts": {verdict.value: number for verdict, number in counted(results).items()},
        "checks": [_check(result) for result in results],
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(result: Result) -> Document:
    return {
        "check": result.check,
        "subject": result.subject,
        "verdict": result.verdict,
        "value": result.value,
        "expected": result.expected,
        "source": result.source,
        "action": result.action,
    }


def diagnosis_text(document: Document) -> str:
    """For a terminal: worst first, then what to do."""
    rank = {verdict.value: number for number, verdict in enumerate(ORDER)}
    checks = sorted(document["checks"], key=lambda one: rank[one["verdict"]])
    rows = _rows(checks)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in document["counts"].items())
    parts = [f"Node {document['node']}, {document['taken_at']}: {counts}"]
    parts += [table(("VERDICT", "CHECK", "SUBJECT", "VALUE"), rows)] if rows else []
    parts += list(_advice(checks))
    return "\n\n".join(parts) + "\n"


def _rows(checks: Sequence[Document]) -> list[tuple[str, ...]]:
    """One row a result that is wrong; what is right, or not judged, is one row a check."""
    found: dict[tuple[str, ...], list[Document]] = {}
    for one in checks:
        alone = one["subject"] if one["verdict"] in _SHOWN else ""
        found.setdefault((one["verdict"], one["check"], alone), []).append(one)
    rows: list[tuple[str, ...]] = []
    for (verdict, check, _), group in found.items():
        values = list(dict.fromkeys(one["value"] for one in group))
        subject = group[0]["subject"] if len(group) == 1 else f"{len(group)} subjects"
        more = f" (and {len(values) - 1} more)" if len(values) > 1 else ""
        rows.append((verdict, check, subject, values[0] + more))
    return rows


def _advice(checks: Sequence[Document]) -> Iterator[str]:
    for one in checks:
        if one["verdict"] in _SHOWN:
            yield (
                f"{one['verdict']}: {one['check']} of {one['subject']}: {one['value']}\n"
                f"  expected: {one['expected']} ({one['source']})\n  do: {one['action']}"
            )


def junit_text(document: Document) -> str:
    """One test case a result. `warn` is no failure: it stands in the case's output."""
    counts = document["counts"]
    numbers = (
        f'tests="{len(document["checks"])}" failures="{counts["fail"]}" errors="0"'
        f' skipped="{counts["skipped"]}"'
    )
    head = f'<testsuite name="deviceplugin diagnose" hostname={_quoted(document["node"])} {numbers}'
    cases = "".join(f"  {_case(one)}\n" for one in document["checks"])
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}'
        f" timestamp={_quoted(document['taken_at'].removesuffix('Z'))}>\n{cases}</testsuite>\n"
    )


def _case(one: Document) -> str:
    start = f"<testcase classname={_quoted(one['subject'])} name={_quoted(one['check'])}"
    text = html.escape(f"expected: {one['expected']} ({one['source']}); do: {one['action']}")
    if one["verdict"] == Verdict.FAIL:
        return f"{start}><failure message={_quoted(one['value'])}>{text}</failure></testcase>"
    if one["verdict"] == Verdict.SKIPPED:
        return f"{start}><skipped message={_quoted(one['value'])}/></testcase>"
    if one["verdict"] == Verdict.WARN:
        said = html.escape(f"warning: {one['value']}; ")
        return f"{start}><system-out>{said}{text}</system-out></testcase>"
    return f"{start}/>"


def _quoted(text: str) -> str:
    """Texts are one line of printable characters already."""
    return f'"{html.escape(text)}"'


def wrong_checks(document: Document) -> Sequence[str]:
    """The checks that a person has to look at, each once."""
    wrong = [one["check"] for one in document["checks"] if one["verdict"] in _TO_LOOK_AT]
    return list(dict.fromkeys(wrong))
