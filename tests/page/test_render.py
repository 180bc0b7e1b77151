"""The page's HTML: what is drawn, in words too, and that nothing from outside is markup."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from deviceplugin.page import words
from deviceplugin.page.markup import sparkline, tag
from deviceplugin.page.render import body, whole_page
from deviceplugin.page.status import status_of
from tests.page.known import known

VOID = {"meta", "link", "br"}


class Elements(HTMLParser):
    """All elements with their attributes; fails where they are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def page(*, pods: bool = True) -> str:
    return whole_page(status_of(known(), pods=pods))


def test_the_page_is_well_formed_and_its_ids_are_unique() -> None:
    ids = [attributes["id"] for _, attributes in Elements(page()).found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_summary_says_what_is_not_well() -> None:
    assert "3 GPUs · 1 in use · 1 not healthy · 1 alert firing" in page()


@pytest.mark.parametrize(
    "words",
    [
        *("37 %", "13 GiB of 40 GiB", "251 of 400 W", "63 °C"),
        *("team/trainer", "NVLINK ×12", "not divided · 15 GiB", "a rule fits nothing"),
        "temperature &gt; 60°C, now 63°C; for 1 min",
    ],
)
def test_what_is_known_is_shown(words: str) -> None:
    assert words in page()


def test_partitions_are_as_wide_as_their_part_of_the_memory() -> None:
    grows = re.findall(r"flex-grow:(\d+)", page())
    assert grows == ["5120", "20480", "15360"]


def test_what_comes_from_outside_is_text() -> None:
    text = page()
    assert "it fell off the bus &lt;b&gt;" in text
    assert "reset it &amp; look at the log" in text
    assert tag("i", "", {"title": "\"'><script>"}) == (
        '<i title="&quot;&#39;&gt;&lt;script&gt;"></i>'
    )


def test_a_fault_says_what_to_do() -> None:
    assert "<strong>Do: </strong>reset it" in page()


def test_bars_are_meters_with_words() -> None:
    found = [a for _, a in Elements(page()).found if a.get("role") == "meter"]
    shown = {(a["aria-label"], a["aria-valuenow"], a["aria-valuetext"]) for a in found}
    assert shown == {
        ("Utilisation", "37", "37 %"),
        ("Memory", "32", "13 GiB of 40 GiB"),
        ("Power", "63", "251 of 400 W"),
    }


def test_what_is_not_measured_has_no_bar() -> None:
    assert "Memory 40 GiB; nothing is measured." in page()
    assert "It does not answer." in page()


def test_without_leave_no_pod_is_named() -> None:
    text = page(pods=False)
    assert "trainer" not in text
    assert "held by 1 container" in text
    assert "Pods are not named here" in text


def test_without_scripts_the_page_renews_itself() -> None:
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in page()


def test_every_part_that_changes_can_be_found_again() -> None:
    found = Elements(body(status_of(known(), pods=True))).found
    assert all(attributes.get("id") for _, attributes in found if "data-part" in attributes)


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    assert sparkline("x", (1.0, 2.0, None, 3.0, 1.0)).count("<polyline") == 2
    assert sparkline("x", (None, 1.0)) == ""


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.size(None), "–"),
        (words.size(0), "0 B"),
        (words.size(3 * (1 << 29)), "1.5 GiB"),
        (words.percent(None), "–"),
        (words.percent(0.0), "0 %"),
        (words.watts(None, 300.0), "–"),
        (words.watts(41.6), "42 W"),
        (words.ago(59), "59 s"),
        (words.ago(7200), "2 h"),
        (words.listed(["a", "b", "c"], 2), "a, b and 1 more"),
        (words.short("GPU-0123456789-abc"), "GPU-01234567…"),
    ],
)
def test_values_are_read_by_people(shown: Any, text: str) -> None:
    assert shown == text
