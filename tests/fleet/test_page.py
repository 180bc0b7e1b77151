"""A fleet's report as a page, and the server of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.fleet.page import Document, fleet_page
from deviceplugin.fleet.plan import Asked, WhatIf, report_document
from deviceplugin.fleet.plan_text import report_text
from deviceplugin.fleet.serve import Served
from deviceplugin.metrics.reply import StoreError
from tests.fleet.examples import answers, fleet, series
from tests.page.browser import browser


@pytest.fixture(scope="module")
def report() -> Document:
    told = answers()
    evil = series({"vendor": "nvidia", "namespace": "<script>alert(1)</script>"}, lambda _: 1.0)
    told["gpu_used"] = (*told["gpu_used"], evil)
    return report_document(fleet(told), Asked(accuracy=95.0), WhatIf())


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
    page = fleet_page(report_document(fleet(told), Asked(), WhatIf()))
    assert "no data of 8 NVIDIA" in page


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
    assert pages["/report.json"]().text.startswith("{")


def test_a_wrong_setting_ends_it() -> None:
    with pytest.raises(ConfigError):
        Served(raises(ConfigError("--add", "2xB200", "a model"))).renew()


@pytest.mark.slow
def test_a_browser_shows_it_on_a_desk_and_a_phone(report: Document, tmp_path: Path) -> None:
    (tmp_path / "fleet.html").write_text(fleet_page(report))
    with browser(tmp_path) as tab:
        for width, scheme in ((1280, "light"), (375, "dark")):
            tab.look(width, 900, scheme)
            tab.open((tmp_path / "fleet.html").as_uri(), scripts=False)
            tab.call("Emulation.setScriptExecutionDisabled", value=False)
            assert tab.run("document.querySelectorAll('svg.chart polygon.band').length") >= 2
            assert tab.run("document.querySelectorAll('.cards .card').length") == 3
            wide = tab.run("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0
            tab.shot(tmp_path / f"{scheme}.png")
            assert (tmp_path / f"{scheme}.png").stat().st_size > 10_000
