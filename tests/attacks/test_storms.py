"""What comes too often: events, an agent's answers, lines of the log, bytes of a configuration."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from deviceplugin.config.files import MAX_BYTES, MAX_FILES, read_config_files
from deviceplugin.config.yaml import MAX_VALUES, parse_yaml
from deviceplugin.discovery.watch import MAX_KINDS, STEP, HealthWatch
from deviceplugin.errors import ConfigError
from deviceplugin.health.agents import BURST, COST_BYTES, MAX_ANSWER_BYTES, Listener, Pace
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.log_limit import LINES, MAX_KEYS, WINDOW_S, Line, LogLimit
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.limits import (
    MAX_MESSAGE_BYTES,
    MIN_MESSAGE_BYTES,
    message_limit,
)
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery, Fault, FaultClass
from deviceplugin.vendor import HealthReport
from tests.health.test_agents import AGENTS, DEVICES, Told, nvidia_answer, serve
from tests.rig import WAIT_S

GPU = Device(id=DeviceID("v-0"), vendor="v")


def event(code: int) -> Fault:
    return Fault(device=GPU.id, source="v.x", code=str(code), reason="r", kind=FaultClass.APP)


class Stormy:
    """A vendor whose watch reports as many events as it can."""

    name = "v"

    def __init__(self, kinds: int, rounds: int) -> None:
        self.kinds, self.rounds = kinds, rounds
        self.done = threading.Event()

    def discover(self) -> Discovery:
        return Discovery(devices=(GPU,))

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()

    def watch_health(
        self, devices: Sequence[Device], report: HealthReport, stop: threading.Event
    ) -> None:
        for number in range(self.rounds):
            for code in range(self.kinds):
                report.event(event(code))
            if number % 10 == 0:
                stop.wait(0.01)
        self.done.set()


async def test_a_storm_of_events_is_counted_whole_and_leaves_the_loop_to_others() -> None:
    """1,000 a second of every XID that there is, and many times more."""
    store = InventoryStore(lambda: 1000.0)
    store.set_devices("v", [GPU])
    tracker = FaultTracker(store, FaultPolicy(section=HealthSection()), "boot")
    vendor, changes = Stormy(kinds=172, rounds=100), 0
    watch = HealthWatch(vendor, tracker, asyncio.Event())
    watch.follow([GPU])
    async with asyncio.timeout(WAIT_S):
        while tracker.event_counts.total() < vendor.kinds * vendor.rounds:
            seen = tracker.records.value
            await asyncio.sleep(0)  # somebody else on the loop
            changes += tracker.records.value is not seen
    watch.end()
    assert vendor.done.is_set()
    assert set(tracker.event_counts.values()) == {vendor.rounds}
    assert changes < vendor.kinds * vendor.rounds / 10  # changes of the list, not events


async def test_more_kinds_of_events_than_hardware_has_are_taken_in_steps_and_bounded() -> None:
    store = InventoryStore(lambda: 1000.0)
    store.set_devices("v", [GPU])
    tracker = FaultTracker(store, FaultPolicy(section=HealthSection()), "boot")
    watch = HealthWatch(Stormy(1, 1), tracker, asyncio.Event())
    for code in range(2 * MAX_KINDS):
        watch.add_event(event(code))
    steps = []
    async with asyncio.timeout(WAIT_S):
        while tracker.event_counts.total() < MAX_KINDS:
            steps.append(tracker.event_counts.total())
            await asyncio.sleep(0.001)
    assert max(b - a for a, b in pairwise(steps)) <= STEP
    assert tracker.event_counts.total() == MAX_KINDS


def test_an_agent_is_read_once_a_second_after_a_burst() -> None:
    pace, now, read = Pace(1.0, 0.0), 0.0, 0
    while now < 100:
        read += 1
        now += pace.wait_s(10, now)
    assert BURST + 95 < read < BURST + 105


def test_a_long_answer_counts_as_several() -> None:
    pace = Pace(1.0, 0.0)
    assert pace.wait_s(MAX_ANSWER_BYTES, 0.0) == pytest.approx(
        1 + MAX_ANSWER_BYTES / COST_BYTES - BURST
    )


def test_an_agent_that_was_quiet_has_its_burst_again() -> None:
    pace = Pace(1.0, 0.0)
    assert any(pace.wait_s(10, 0.0) > 0 for _ in range(100))
    assert pace.wait_s(10, 1000.0) == 0


async def test_an_agent_that_streams_without_end_is_read_no_faster(short_dir: Path) -> None:
    agent, told = AGENTS["nvidia"], Told()
    kinds = ("True", "False")
    answers = [nvidia_answer("ADDED", "Ready", kinds[n % 2]) for n in range(5000)]
    server = await serve(agent, short_dir / "s", *answers)
    listener = Listener("nvidia", agent, short_dir / "s", told)
    listening = asyncio.create_task(listener.run(lambda: DEVICES))
    for _ in range(int(BURST)):
        await asyncio.wait_for(told.sets.get(), WAIT_S)
    # What is read from now on takes time for each: nothing like the rest of them is there.
    await asyncio.sleep(0)
    assert told.sets.qsize() < 100
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


def test_the_log_has_so_many_lines_a_minute_about_one_device_and_source() -> None:
    limit, flapping = LogLimit(), {"device": "a", "source": "v.agent"}
    lines = [limit.line(flapping, now / 10) for now in range(1000)]
    assert lines.count(Line.LOGGED) == 2 * LINES  # 100 s are two windows
    assert lines.count(Line.LIMIT) == 2
    assert limit.line({"device": "b", "source": "v.agent"}, 100) is Line.LOGGED
    assert limit.line({"device": "a", "source": "v.probe"}, 100) is Line.LOGGED
    assert limit.line({"vendor": "v"}, 100) is Line.LOGGED
    assert limit.line(flapping, 100 + WINDOW_S) is Line.LOGGED


def test_devices_that_are_invented_cost_the_log_no_memory() -> None:
    limit = LogLimit()
    for number in range(3 * MAX_KEYS):
        limit.line({"device": str(number)}, 0)
    assert len(limit._logged) <= MAX_KEYS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lists", "a: [" + "[]," * ((MAX_BYTES - 6) // 3) + "]"),
        ("keys", "".join(f"k{n}: 1\n" for n in range(MAX_VALUES))),
    ],
)
def test_a_configuration_of_too_many_values_is_refused(name: str, text: str) -> None:
    assert len(text) <= MAX_BYTES, name
    with pytest.raises(ValueError, match=f"more than {MAX_VALUES} keys and values"):
        parse_yaml(text.encode())


def test_files_of_a_directory_have_one_limit_together(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.yaml").write_text("#" * (MAX_BYTES // 2))
    with pytest.raises(ConfigError, match=r"2\.yaml.*bytes in all files"):
        read_config_files(tmp_path)


def test_a_directory_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(ConfigError, match=f"{MAX_FILES} files"):
        read_config_files(tmp_path)


def test_a_pipe_among_the_files_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="a pipe"):
        read_config_files(tmp_path)


@pytest.mark.parametrize(
    ("list_bytes", "limit"),
    [
        (0, MIN_MESSAGE_BYTES),
        (MIN_MESSAGE_BYTES // 2, MIN_MESSAGE_BYTES),
        (MIN_MESSAGE_BYTES // 2 + 1, 2 * MIN_MESSAGE_BYTES),
        (4 << 20, MAX_MESSAGE_BYTES),
        (100 << 20, MAX_MESSAGE_BYTES),
    ],
)
def test_a_request_may_name_every_id_twice_and_no_more(list_bytes: int, limit: int) -> None:
    assert message_limit(list_bytes) == limit


HUNG = """
import asyncio, threading
from deviceplugin.runtime.threads import end_without_threads
async def main():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    end_without_threads(0)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_thread_that_hangs_does_not_keep_the_daemon_from_its_end() -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", HUNG],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 0
    assert "ended_without_threads" in done.stdout + done.stderr
