"""The page in a real browser: content, live, dark, on a phone, by keyboard, and by axe-core."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.config.config import Config
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.page.service import PagePart
from deviceplugin.page.sources import Sources
from deviceplugin.page.status import Known
from tests.page.browser import Browser, browser
from tests.page.known import CUT, known
from tests.rig import WAIT_S

pytestmark = pytest.mark.slow
AXE = "axe-core@4.10.3"


class Node:
    """A page whose node a test changes."""

    def __init__(self) -> None:
        self.known = known()
        config = Config(node_name="node-1", metrics_address=("127.0.0.1", 0))
        sources = Sources(
            now=lambda: self.known.at,
            inventory=lambda: self.known.inventory,
            held=lambda: self.known.held,
            listed=lambda: self.known.listed,
            notices=lambda: self.known.notices,
            view=lambda: self.known.view,
            trends=lambda: self.known.trends,
            alerts=lambda: self.known.alerts,
        )
        part = PagePart(config, sources)
        self.server = HttpServer(application(part.routes()), ("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.port}/"

    def be(self, **fields: Any) -> Known:
        self.known = replace(self.known, **fields)
        return self.known


@pytest.fixture
def node() -> Iterator[Node]:
    others = {*threading.enumerate()}  # another test's server may be there, and stay
    node = Node()
    yield node
    node.server.close()
    for thread in {*threading.enumerate()} - others:
        if thread.name.startswith("http"):
            thread.join(WAIT_S)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path) as tab:
        tab.look(1280, 900, "light")
        yield tab


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script, of npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not here: axe-core comes from it")
    folder = tmp_path_factory.mktemp("npm")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", AXE]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=WAIT_S, env={**os.environ}
    )
    if ended.returncode:
        pytest.skip(f"npm has no {AXE}: {ended.stderr[-300:]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


def test_the_page_is_live_and_only_what_changed_is_renewed(node: Node, tab: Browser) -> None:
    tab.open(node.url)
    assert tab.run("document.title") == "GPUs of node-1"
    tab.run("document.querySelector('details').open = true")
    node.be(held=(), alerts=(), notices=())
    tab.run("""new Promise((resolve) => {
        const gone = () => !document.body.textContent.includes("team/trainer");
        const look = () => gone() ? resolve(true) : setTimeout(look, 50);
        look(); })""")
    assert tab.run("document.querySelector('details').open")
    assert "0 in use" in tab.run("document.getElementById('live').textContent")
    tab.run(f"window.kept = document.getElementById('device-{CUT}'); true")
    node.be(notices=("another",))
    tab.run("""new Promise((resolve) => {
        const look = () => document.body.textContent.includes("another")
            ? resolve(true) : setTimeout(look, 50);
        look(); })""")
    assert tab.run("window.kept.isConnected")  # the GPU did not change, and stays the same element


def test_without_scripts_everything_is_there(node: Node, tab: Browser) -> None:
    tab.open(node.url, scripts=False)
    text = tab.run("document.body.textContent")
    for words in ("NVIDIA A100 0", "team/trainer", "reset it & look at the log", "63 °C"):
        assert words in text


def test_the_page_follows_the_browsers_light_and_dark(node: Node, tab: Browser) -> None:
    tab.open(node.url)
    back = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(back)
    tab.look(1280, 900, "dark")
    assert tab.run(back) != light


def test_a_phone_needs_no_sideways_scrolling(node: Node, tab: Browser) -> None:
    tab.look(360, 740, "light")
    tab.open(node.url)
    assert tab.run("document.documentElement.scrollWidth") <= 360


def test_partitions_are_drawn_to_scale(node: Node, tab: Browser) -> None:
    tab.open(node.url)
    widths = tab.run(
        "[...document.querySelectorAll('.layout li')].map((li) => li.getBoundingClientRect().width)"
    )
    small, large, rest = widths
    assert small < rest < large


def test_everything_is_reached_by_keyboard(node: Node, tab: Browser) -> None:
    tab.open(node.url)
    wanted = tab.run("document.querySelectorAll('a, summary, [tabindex]').length")
    reached = []
    for _ in range(wanted):
        tab.key("Tab")
        reached.append(tab.run("document.activeElement.outerHTML.slice(0, 120)"))
    assert "Skip to the GPUs" in reached[0]
    assert any(one.startswith("<summary>") for one in reached)
    assert any("/status/schema" in one or 'href="status/schema"' in one for one in reached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(width: int, scheme: str, node: Node, tab: Browser, axe: str) -> None:
    tab.look(width, 900, scheme)
    tab.open(node.url)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; }); true")
    tab.run(f"{axe}; true")
    found = tab.run(
        "axe.run().then((all) => all.violations.map((one) => ({id: one.id,"
        " nodes: one.nodes.map((node) => node.html + node.failureSummary)})))"
    )
    assert found == []
