"""A capability that nobody in the daemon knows is plugged in by the two tuples, and by no other
edit: its section in `config/load.py`, its part in `daemon/assembly.py`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.config.load import CAPABILITIES as SECTIONS
from deviceplugin.config.load import load
from deviceplugin.config.reload import LastReload, Origin, Reloader
from deviceplugin.daemon.assembly import assemble
from deviceplugin.daemon.capabilities import CAPABILITIES
from deviceplugin.daemon.core import Start
from deviceplugin.daemon.daemon import Daemon, Tables, use_all
from deviceplugin.errors import ConfigError
from deviceplugin.runtime.control import ControlError, ask_daemon
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.part import Page, Part, Response
from deviceplugin.vendor import VendorModule
from tests.daemon import beacon
from tests.daemon.beacon import BeaconPart
from tests.rig import WAIT_S, fetch

CONFIG = Config(node_name="n")


class Node:
    """A daemon with the beacon in this process, and its configuration file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked = asyncio.Event()
        self.daemon: Daemon
        self.url = ""

    def load(self) -> tuple[Config, Sequence[VendorModule]]:
        places = ("host_root", "kubelet_dir", "cdi_dir", "state_dir")
        flags = {"config": str(self.root / "c.yaml"), "metrics_address": "127.0.0.1:0"}
        config, _ = load(
            flags | dict.fromkeys(places, str(self.root)), (*SECTIONS, beacon.SECTIONS)
        )
        return config, ()

    def write(self, **section: object) -> None:
        (self.root / "c.yaml").write_text(json.dumps({"beacon": section}))

    @property
    def reloader(self) -> Reloader:
        return next(part for part in self.daemon.parts if isinstance(part, Reloader))

    @property
    def beacon(self) -> BeaconPart:
        return next(part for part in self.daemon.parts if isinstance(part, BeaconPart))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.write()
        config, _ = self.load()
        origin = Origin(config=config, load=self.load, describe=effective, asked=self.asked)
        start = Start(config=config, vendors=(), now=time.time, seed=1, origin=origin)
        self.daemon = assemble(start, (*CAPABILITIES, BeaconPart))
        with capture_logs() as logs:
            running = asyncio.create_task(self.daemon.run())
            try:
                await self.beacon.blinks.until(bool)
                async with asyncio.timeout(WAIT_S):
                    while not (told := [e for e in logs if e["event"] == "metrics_served"]):  # noqa: ASYNC110  # a log
                        await asyncio.sleep(0.01)
                self.url = f"http://{told[0]['address']}"
                yield
            finally:
                running.cancel()
                await asyncio.wait([running])

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(fetch, self.url + path)

    async def reload(self, **section: object) -> LastReload:
        self.write(**section)
        before = self.reloader.last
        self.asked.set()
        async with asyncio.timeout(WAIT_S):
            while self.reloader.last == before:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        return self.reloader.last


@pytest.fixture
async def node(short_dir: Path) -> AsyncIterator[Node]:
    node = Node(short_dir)
    async with node.serving():
        yield node
    structlog.reset_defaults()


async def test_its_task_series_page_and_operation_are_there(node: Node) -> None:
    _, metrics = await node.get("/metrics")
    assert 'deviceplugin_beacon_blinks_total{colour="green"} ' in metrics
    assert 'deviceplugin_collector_success{collector="beacon"} 1.0' in metrics
    assert await node.get("/beacon") == (200, "green")
    assert "/beacon, " in (await node.get("/other"))[1]
    request = {"operation": "beacon"}
    answer = await asyncio.to_thread(ask_daemon, node.root, request)
    assert answer == {"colour": "green"}
    with pytest.raises(ControlError, match=r"not a request: .*`twice`"):
        await asyncio.to_thread(ask_daemon, node.root, {"operation": "beacon", "twice": "yes"})


async def test_its_problem_is_told_in_the_order_of_the_parts(node: Node) -> None:
    assert "no kubelet listens" in (await node.get("/readyz"))[1]
    node.beacon.blinks.value = 0
    assert (node.daemon.problem()) == "the first blink"


async def test_its_section_is_checked_and_taken_at_a_reload(node: Node) -> None:
    assert (await node.reload(colour="blue")).successful
    assert await node.get("/beacon") == (200, "blue")
    assert not (await node.reload(colour="red")).successful
    assert await node.get("/beacon") == (200, "blue")
    assert (await node.reload(colour="white")).successful
    assert not (await node.reload(color="blue")).successful
    assert await node.get("/beacon") == (200, "white")


async def test_its_series_fail_alone(node: Node) -> None:
    await node.reload(colour="black")
    status, metrics = await node.get("/metrics")
    assert status == 200
    assert 'deviceplugin_collector_success{collector="beacon"} 0.0' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert (await node.get("/healthz"))[0] == 200


class Told(Part[Config]):
    """A part that writes down what is asked of it."""

    def __init__(self, name: str, steps: list[str], problem: Exception | None = None) -> None:
        self._name, self._steps, self._problem = name, steps, problem

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self._steps.append(f"{self._name} starts")
        try:
            yield
        finally:
            self._steps.append(f"{self._name} ends")

    def check(self, config: Config) -> None:
        if isinstance(self._problem, ConfigError):
            raise self._problem

    async def use(self, config: Config) -> None:
        self._steps.append(f"{self._name} used")
        if self._problem is not None:
            raise self._problem


def told(*parts: Part[Config]) -> Daemon:
    return Daemon(parts, Tables(), Keeper())


async def test_parts_start_in_order_and_end_the_other_way() -> None:
    steps: list[str] = []
    daemon = told(Told("a", steps), Told("b", steps))
    running = asyncio.create_task(daemon.run())
    async with asyncio.timeout(WAIT_S):
        while "b starts" not in steps:  # noqa: ASYNC110  # a list
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert steps == ["a starts", "b starts", "b ends", "a ends"]


async def test_a_reload_that_one_part_refuses_changes_no_part() -> None:
    steps: list[str] = []
    refused = ConfigError("key", "value", "another")
    with pytest.raises(ConfigError):
        await use_all([Told("a", steps), Told("b", steps, refused)], CONFIG)
    assert steps == []


async def test_a_part_that_fails_at_a_reload_keeps_no_other_from_following() -> None:
    steps: list[str] = []
    with pytest.raises(RuntimeError):
        await use_all([Told("a", steps, RuntimeError("a bug")), Told("b", steps)], CONFIG)
    assert steps == ["a used", "b used"]


class Paged(Part[Config]):
    """A part with a page."""

    def routes(self) -> Mapping[str, Page]:
        return {"/page": lambda: Response("200 OK", "text/plain", "")}


async def test_two_parts_cannot_have_one_page() -> None:
    with pytest.raises(ValueError, match="two parts of the daemon have /page"):
        told(Paged(), Paged())
