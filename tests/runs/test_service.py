"""Runs as a part of the daemon: on, off, shown and hidden, and what a full disk costs."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from deviceplugin.config.config import Config
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.runs.keeping import Keeping
from deviceplugin.runs.section import RunsSection
from deviceplugin.runs.service import Around, RunsPart
from deviceplugin.runs.store import FILE, RunStore
from deviceplugin.runtime.latest import Latest
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.model import TelemetryView
from tests.runs.made import NOW, held, view

POD = "web-6c5d9f8b7d-x7k2p"
PUBLIC = ("0.0.0.0", 9440)


class Ledger:
    """What containers hold, as a test says."""

    def __init__(self) -> None:
        self.answered, self.now_held = True, list[Held]()

    def held(self) -> list[Held]:
        return self.now_held


class Node:
    """The part with everything around it."""

    def __init__(self, state_dir: Path, *, enabled: bool = True, pods: bool | None = True) -> None:
        self.now, self.ledger = NOW, Ledger()
        self.view: Latest[TelemetryView | None] = Latest(None)
        self.state_dir = state_dir
        around = Around(lambda: self.now, self.ledger, self.view)
        self.part = RunsPart(self.config(enabled=enabled, pods=pods), around, look_s=0.01)

    def config(self, *, enabled: bool = True, pods: bool | None = True) -> Config:
        sections = {"runs": RunsSection(enabled=enabled), "metrics": MetricsSection(pods=pods)}
        return Config(
            node_name="node-1",
            state_dir=self.state_dir,
            metrics_address=PUBLIC,
            sections=sections,
        )

    def page(self) -> tuple[str, str]:
        response = self.part.routes()["/runs"]()
        return response.status, response.text

    def used(self) -> float | None:
        """Of what runs, as the file has it: a view is taken before it is written."""
        self.now += 61  # what runs is written once a minute
        store = RunStore(self.state_dir)
        found = [hold.use.peak_mib for hold in store.holds()]
        store.close()
        return found[0] if found else None

    def metrics(self) -> str:
        return "\n".join(line for one in self.part.collect() for line in one.lines())

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.005)


async def running(node: Node, story: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(node.part.tasks()["runs"]())
    try:
        await story()
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def document(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


async def test_a_run_that_ended_is_on_the_page_with_what_it_used(tmp_path: Path) -> None:
    node = Node(tmp_path)

    async def story() -> None:
        await node.until(lambda: "deviceplugin_runs_running 0" in node.metrics())
        node.ledger.now_held = held(POD)
        await node.until(lambda: "deviceplugin_runs_running 1" in node.metrics())
        node.view.set(view(("GPU-0", 700, 0.5, (POD,))))
        await node.until(lambda: node.used() == 700)
        node.now += 60
        node.ledger.now_held = []
        await node.until(lambda: "deviceplugin_runs_ended_total 1" in node.metrics())
        await node.until(lambda: document(node.page()[1])["runs"] != [])
        found = document(node.page()[1])
        assert (found["version"], found["node"]) == (1, "node-1")
        assert found["groups"] == [["ml", "web", "main"]]
        ((group, start, seconds, *used),) = found["runs"]
        assert (group, start, used) == (0, NOW, [700.0, 0.5, 0.55])
        assert seconds >= 60.0
        assert "x7k2p" not in node.page()[1]

    await running(node, story)


async def test_until_it_is_known_what_containers_hold_nothing_is_taken_for_ended(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path)
    node.ledger.answered = False

    async def story() -> None:
        await node.until(lambda: "deviceplugin_runs_failing 0" in node.metrics())
        assert "running" not in node.metrics()
        node.ledger.answered = True
        await node.until(lambda: "deviceplugin_runs_running 0" in node.metrics())

    await running(node, story)


async def test_off_it_keeps_nothing_and_a_reload_switches_it(tmp_path: Path) -> None:
    node = Node(tmp_path, enabled=False)
    node.ledger.now_held = held("a")

    async def story() -> None:
        assert node.page() == ("404 Not Found", "runs.enabled is false\n")
        assert not (tmp_path / FILE).exists()
        await node.part.use(node.config())
        await node.until(lambda: (tmp_path / FILE).exists() and node.page()[0] == "200 OK")
        await node.part.use(node.config(enabled=False))
        await node.until(lambda: node.metrics() == "")
        assert node.page()[0] == "404 Not Found"

    await running(node, story)


async def test_without_leave_to_name_pods_the_page_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, pods=None)
    status, text = node.page()
    assert status == "403 Forbidden"
    assert "metrics.pods" in text


async def test_before_it_has_begun_the_page_says_so(tmp_path: Path) -> None:
    assert Node(tmp_path).page()[0] == "503 Service Unavailable"


async def test_a_disk_that_takes_nothing_is_told_once_and_what_ended_waits(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.touch()
    keeping = Keeping(blocked)
    with structlog.testing.capture_logs() as logs:
        await keeping.look([], None, NOW)
        await keeping.look(held("a"), None, NOW)
        await keeping.look([], None, NOW + 60)
    assert [one["event"] for one in logs] == ["runs_not_written"]
    assert "Not a directory" in keeping.failing or "exists" in keeping.failing
    blocked.unlink()
    await keeping.look([], None, NOW + 70)
    assert keeping.failing == ""
    assert len(keeping.store.runs(NOW + 70)) == 1
    await keeping.close(NOW + 70)


async def test_what_runs_is_written_each_minute_for_a_daemon_that_is_killed(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path)
    await keeping.look([], None, NOW)
    await keeping.look(held("a"), view(("GPU-0", 5, 0.5, ("a",))), NOW)
    await keeping.look(held("a"), view(("GPU-0", 9, 0.5, ("a",))), NOW + 59)
    assert [hold.use.peak_mib for hold in keeping.store.holds()] == [5]
    await keeping.look(held("a"), None, NOW + 61)
    assert [(hold.use.peak_mib, hold.seen) for hold in keeping.store.holds()] == [(9, NOW + 61)]
    await keeping.close(NOW + 61)
