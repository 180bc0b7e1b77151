"""A fleet's report as a page, and the server of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deviceplugin.errors import ConfigError
from deviceplugin.fleet.demand import fleet_of
from deviceplugin.fleet.figures import report_metrics
from deviceplugin.fleet.page import Document, fleet_page
from deviceplugin.fleet.plan import Asked, WhatIf, report_document
from deviceplugin.fleet.plan_text import report_text
from deviceplugin.fleet.risk import risk_document
from deviceplugin.fleet.serve import Served
from deviceplugin.metrics.reply import Series, StoreError
from tests.fleet.examples import END, answers, fleet, priced, series
from tests.page.browser import Browser, browser


@pytest.fixture(scope="module")
def report() -> Document:
    told = answers()
    evil = series({"vendor": "nvidia", "namespace": "<script>alert(1)</script>"}, lambda _: 1.0)
    told["gpu_used"] = (*told["gpu_used"], evil)
    return priced() | report_document(fleet(told), Asked(accuracy=95.0), WhatIf())


EMPTY = fleet_of({}, 0.0, END)


def nothing() -> Document:
    """The report of a store that has nothing."""
    return report_document(EMPTY, Asked(), WhatIf()) | {"health": risk_document({}, 30)}


def test_the_map_has_every_node_with_its_use(report: Document) -> None:
    page = fleet_page(report)
    assert "6.0 of 8 NVIDIA H100 80GB HBM3" in page
    assert "0.0 of 8 AMD Instinct MI300X" in page
    assert "n3:8080" in report_text(report)


def test_names_from_outside_are_text(report: Document) -> None:
    page = fleet_page(report)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_another_section_is_one_more_function(report: Document) -> None:
    page = fleet_page(report, [("Cost", lambda _: "<p>12 USD</p>"), ("Empty", lambda _: "")])
    assert "<h2>Cost</h2><p>12 USD</p>" in page
    assert "Empty" not in page


def test_use_that_is_not_known_is_no_data() -> None:
    told = answers()
    del told["gpu_used"], told["gpu_node_used"]
    found = report_document(fleet(told), Asked(), WhatIf())
    assert "no data of 8 NVIDIA" in fleet_page(found | {"health": risk_document({}, 30)})


def test_health_cost_budgets_and_savings_are_parts_of_the_page(report: Document) -> None:
    page = fleet_page(report)
    for head in ("Nodes", "Health risk", "Cost", "Recommendations", "Savings", "Forecasts"):
        assert f"<h2>{head}</h2>" in page
    assert "a row of its memory could not be replaced" in page
    assert "allocated-idle" in page
    assert "Budgets of 2026-03" in page
    assert "right-size" in page


def test_a_terminal_shows_the_same_parts(report: Document) -> None:
    text = report_text(report)
    assert "replace  a row of its memory could not be replaced" in text
    assert "No data of these signs of failures: no spares" in text
    assert "allocated-idle" in text
    assert "1,152.00" in text
    assert "right-size" in text
    assert "No GPU has a sign" in report_text(report | {"health": clean()})


def clean() -> Document:
    """The signs of a fleet that has none."""
    told = Series(labels={"uuid": "GPU-0"}, values={END: 0.0})
    return risk_document({"remap_failed": (told,)}, 30)


def test_a_store_that_has_nothing_is_said_to_have_nothing() -> None:
    page = fleet_page(nothing())
    assert "no GPU of the last day: no data" in page
    assert "No data: remap failed, no spares, off bus" in page
    assert "No GPU has one" not in page
    assert "<h2>Cost</h2>" not in page


def test_metrics_say_when_it_is_full_and_what_budgets_come_to(report: Document) -> None:
    text = report_metrics(report)
    families = {one.name: one for one in text_string_to_metric_families(text)}
    full = families["deviceplugin_fleet_full_in_hours"].samples
    assert all(0 < one.value <= 720 for one in full)
    (alert,) = {one.labels["at"] for one in families["deviceplugin_budget_alert"].samples} - {"80%"}
    assert alert == "100%"
    assert families["deviceplugin_fleet_report_timestamp_seconds"].samples[0].value == END


def raises(error: Exception) -> Callable[[], Document]:
    def make() -> Document:
        raise error

    return make


def test_while_the_store_is_away_the_last_report_is_served(report: Document) -> None:
    makers = iter([raises(StoreError("no answer")), lambda: report, raises(StoreError("away"))])

    def make() -> Document:
        return next(makers)()

    served = Served(make)
    pages = served.routes()
    seen = []
    for _ in range(3):
        served.renew()
        seen.append((pages["/"]().status[:3], pages["/readyz"]().text))
    assert seen == [("503", "no answer\n"), ("200", "ok\n"), ("200", "ok\naway\n")]
    assert "This report is old: away" in pages["/"]().text
    assert pages["/report.json"]().text.startswith("{")
    assert pages["/metrics"]().text.startswith("# HELP")


def test_a_wrong_setting_ends_it() -> None:
    with pytest.raises(ConfigError):
        Served(raises(ConfigError("--add", "2xB200", "a model"))).renew()


LOOKS = [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")]


@pytest.mark.slow
def test_a_browser_shows_it_on_a_desk_and_a_phone(report: Document, tmp_path: Path) -> None:
    for name, found in (("full", report), ("empty", nothing())):
        (tmp_path / f"{name}.html").write_text(fleet_page(found))
    with browser(tmp_path) as tab:
        for width, scheme in LOOKS:
            tab.look(width, 900, scheme)
            show(tab, tmp_path, "full", f"{width}-{scheme}")
            assert tab.run("document.querySelectorAll('svg.chart polygon.band').length") >= 2
            assert tab.run("document.querySelectorAll('.cards .card').length") == 3
            assert tab.run("document.querySelectorAll('.cost svg rect').length") > 5
            assert tab.run("document.querySelectorAll('.advice tbody tr').length") >= 3
            assert tab.run("document.querySelectorAll('.badge.critical').length") == 1
        show(tab, tmp_path, "empty", "375-dark")
        assert tab.run("document.querySelectorAll('.cards, svg').length") == 0


def show(tab: Browser, directory: Path, name: str, look: str) -> None:
    """Open a page and keep its picture; nothing of it is wider than the window."""
    tab.open((directory / f"{name}.html").as_uri(), scripts=False)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0
    tab.shot(directory / f"{name}-{look}.png")
    assert (directory / f"{name}-{look}.png").stat().st_size > 5_000
