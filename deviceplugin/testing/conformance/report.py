"""The verdicts as text for people, JSON for programs, JUnit for CI."""

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from xml.etree import ElementTree as ET

from deviceplugin.testing.conformance.runner import Result
from deviceplugin.testing.conformance.verdict import Outcome, Verdict


def as_text(result: Result) -> str:
    """A line for each statement with what was seen; the reason where it failed."""
    rows = [f"{', '.join(result.resources) or 'no resource'}: {_summary(result)}"]
    part = ""
    for verdict in result.verdicts:
        if verdict.line.part != part:
            part = verdict.line.part
            rows += ["", part]
        rows += _rows(verdict)
    rows += ["", *_ending(result)]
    return "\n".join(rows) + "\n"


def as_json(result: Result) -> str:
    """One object: the resources, the counts, and every line."""
    lines = [
        {
            "id": verdict.line.number,
            "part": verdict.line.part,
            "statement": verdict.line.says,
            "reason": verdict.line.why,
            "verdict": verdict.outcome.value,
            "seen": verdict.seen,
        }
        for verdict in result.verdicts
    ]
    counts = {outcome.value: result.count(outcome) for outcome in Outcome}
    document = {"resources": list(result.resources), "counts": counts, "lines": lines}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_junit(result: Result) -> str:
    """One test suite with a test case for each line."""
    suite = ET.Element(
        "testsuite",
        name="device plugin conformance",
        tests=str(len(result.verdicts)),
        failures=str(result.count(Outcome.FAIL)),
        errors=str(result.count(Outcome.LOST)),
        skipped=str(result.count(Outcome.SKIP)),
    )
    for verdict in result.verdicts:
        suite.append(_case(verdict))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


FORMATS: Mapping[str, Callable[[Result], str]] = MappingProxyType(
    {"text": as_text, "json": as_json, "junit": as_junit}
)


def _summary(result: Result) -> str:
    return ", ".join(f"{result.count(outcome)} {outcome.value}" for outcome in Outcome)


def _ending(result: Result) -> Iterator[str]:
    """What is not a pass, though it could have been."""
    for said, outcome in (
        ("Failed", Outcome.FAIL),
        ("Lost", Outcome.LOST),
        ("Not judged", Outcome.SKIP),
    ):
        lines = [v.line for v in result.verdicts if v.outcome is outcome]
        numbers = [str(line.number) for line in lines if not line.hidden]
        yield f"{said}: {', '.join(numbers) or 'none'}"


def _rows(verdict: Verdict) -> Iterator[str]:
    line = verdict.line
    yield f"  {verdict.outcome.value.upper():4}  {line.number:2}  {line.says}"
    yield f"            {verdict.seen}"
    if verdict.outcome is Outcome.FAIL:
        yield f"            why: {line.why}"


def _case(verdict: Verdict) -> ET.Element:
    line = verdict.line
    case = ET.Element("testcase", classname=line.part, name=f"{line.number:02} {line.says}")
    if verdict.outcome is Outcome.FAIL:
        ET.SubElement(case, "failure", message=_xml(verdict.seen)).text = line.why
    elif verdict.outcome is Outcome.LOST:
        ET.SubElement(case, "error", message=_xml(verdict.seen)).text = line.why
    elif verdict.outcome is Outcome.SKIP:
        ET.SubElement(case, "skipped", message=_xml(verdict.seen))
    else:
        ET.SubElement(case, "system-out").text = _xml(verdict.seen)
    return case


def _xml(text: str) -> str:
    """A plugin's text may have characters that no XML document has."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
