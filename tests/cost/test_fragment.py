"""The bill and advice as parts of a page."""

from xml.etree import ElementTree as ET

import pytest

from deviceplugin.advice.fragment import advice_fragment
from deviceplugin.advice.report import advice_document
from deviceplugin.advice.values import Advice, Saving
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.fragment import MOST_GROUPS, cost_fragment, shown, split_svg
from deviceplugin.cost.report import Document, bill_document
from tests.cost.examples import cell, costs, device, grant, history

EVIL = "<script>alert('&')</script>"
SVG = "{http://www.w3.org/2000/svg}"


def document(*pods: str) -> Document:
    cells = [cell(grant(pod, team=pod), of=f"GPU-{n}") for n, pod in enumerate(pods)]
    devices = tuple(device(f"GPU-{n}") for n in range(len(pods)))
    section = costs()
    found = Biller(section).bill(history(*cells, devices=devices))
    return bill_document(found, "team", section.zone)


def test_a_fragment_is_whole_and_names_are_text() -> None:
    text = cost_fragment(document("red", EVIL))
    assert ET.fromstring(text).tag == "div"  # noqa: S314  # ours
    assert "<script" not in text
    assert "alert" in text
    assert "6.00" in text


def test_many_groups_are_the_bill_all_the_same() -> None:
    found = shown(document(*(f"t{n:02}" for n in range(MOST_GROUPS + 10))))
    assert len(found) == MOST_GROUPS
    assert found[-1]["name"] == "11 others"
    assert sum(one["total"] for one in found) == pytest.approx(3 * (MOST_GROUPS + 10))


def test_bars_are_as_long_as_their_amounts() -> None:
    picture = ET.fromstring(split_svg(document("a", "b")))  # noqa: S314  # ours
    bars = [float(r.attrib["width"]) for r in picture.iter(f"{SVG}rect") if "x" in r.attrib][4:]
    assert bars == [400.0, 400.0]


def test_a_bill_of_nothing_is_drawn() -> None:
    assert ET.fromstring(cost_fragment(document())).tag == "div"  # noqa: S314


def test_advice_is_text_and_what_claims_nothing_has_no_number() -> None:
    saving = Saving(gpu_hours=1.5, freed=3, paid_less=0)
    found = [
        Advice(kind="idle", subject=EVIL, text="t", saving=saving),
        Advice(kind="unknown", subject="s", text="t"),
    ]
    text = advice_fragment(advice_document(found, "USD", 30))
    assert ET.fromstring(text).tag == "div"  # noqa: S314
    assert "<script" not in text
    assert text.count("<td></td>") == 3
    assert "Nothing was found" in advice_fragment(advice_document([], "USD", 30))
