"""What a report says of a node, for each standard and in each form."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.compliance.controls import STANDARDS, THEMES, standard_of, themes_of
from deviceplugin.compliance.evidence import Facts
from deviceplugin.compliance.page import page_text
from deviceplugin.compliance.pdf import pdf_bytes
from deviceplugin.compliance.report import digest, report, sources_of
from tests.compliance.facts import FACTS, LOG, with_check

GOLDEN = Path(__file__).with_name("soc2.json")
ALL = themes_of(())


def violations(facts: Facts, standard: str = "soc2") -> list[str]:
    return [one["text"] for one in report(standard, facts, ALL)["violations"]]


def test_the_report_is_as_it_was_read() -> None:
    text = json.dumps(report("soc2", FACTS, ALL), indent=1, sort_keys=True) + "\n"
    if os.environ.get("STORIES") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "renew with STORIES=write, and read it"


@pytest.mark.parametrize("standard", STANDARDS)
def test_every_control_says_what_is_evidenced_and_what_is_not(standard: str) -> None:
    document = report(standard, FACTS, ALL)
    assert {one["id"] for one in document["controls"]} == {
        one.id for one in STANDARDS[standard].controls
    }
    for control in document["controls"]:
        assert control["evidence"] or control["gaps"]
        assert all(one["sha256"] and one["source"] for one in control["evidence"])
    assert not document["violations"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (replace(FACTS, audit=None, audit_problem="audit.enabled is false"), "audit.enabled"),
        (replace(FACTS, audit=replace(LOG, problems=("a line is gone",))), "a line is gone"),
        (replace(FACTS, audit=replace(LOG, lost=5)), "5 records"),
        (replace(FACTS, audit=replace(LOG, kinds={"access.bypass": 2})), "in use 2 times by who"),
        (replace(FACTS, encrypted=False), "without TLS"),
        (with_check("processes", "fail"), "use of a GPU by processes (2 of them)"),
        (with_check("host_clock", "fail"), "the clock of the node (node)"),
    ],
    ids=["no-log", "cut", "lost", "unallocated", "plain", "processes", "clock"],
)
@pytest.mark.parametrize("standard", STANDARDS)
def test_what_violates_a_control_is_named_once(facts: Facts, text: str, standard: str) -> None:
    (found,) = violations(facts, standard)
    assert text in found
    (one,) = report(standard, facts, ALL)["violations"]
    assert one["controls"]


def test_a_check_that_was_not_judged_is_a_gap_and_no_evidence() -> None:
    found = report("soc2", FACTS, ALL)["controls"]
    (control,) = (one for one in found if one["id"] == "CC8.1")
    assert "the driver (nvidia): <not> & told" in control["gaps"]
    assert not any("driver" in one["text"] for one in control["evidence"])


def test_only_what_the_configuration_names_is_reported() -> None:
    document = report("soc2", FACTS, themes_of(["data_encryption"]))
    assert {one["id"] for one in document["controls"]} == {"CC6.5", "CC6.7"}


def test_every_theme_has_a_word_of_the_configuration() -> None:
    used = {t for s in STANDARDS.values() for c in s.controls for t in c.themes}
    assert used == {theme for themes in THEMES.values() for theme in themes}


def test_a_report_is_held_by_its_hash_and_its_evidence_by_its_sources() -> None:
    document = report("gdpr", FACTS, ALL)
    rest = {key: value for key, value in document.items() if key != "sha256"}
    assert document["sha256"] == digest(json.loads(json.dumps(rest)))
    for name, source in sources_of(FACTS).items():
        assert document["sources"][name] == digest(source)
    assert document["sources"]["audit"] == LOG.last


@pytest.mark.parametrize(
    ("name", "key"), [("SOC 2", "soc2"), ("ISO 27001", "iso27001"), ("HIPAA", "hipaa")]
)
def test_a_standard_may_be_written_as_people_do(name: str, key: str) -> None:
    assert standard_of(name) == key


def document_with(text: str) -> dict[str, Any]:
    return report("soc2", replace(FACTS, audit=replace(LOG, problems=(text,))), ALL)


def test_a_page_shows_every_control_and_no_markup_of_others() -> None:
    page = page_text(document_with("<script>alert(1)</script>"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert all(one.id in page for one in STANDARDS["soc2"].controls)
    assert "not evidenced" in page


def test_a_pdf_is_the_same_for_the_same_report() -> None:
    document = document_with("<b>no & markup")
    content = pdf_bytes(document)
    assert content.startswith(b"%PDF-")
    assert content == pdf_bytes(document)
    assert content != pdf_bytes(report("hipaa", FACTS, ALL))
