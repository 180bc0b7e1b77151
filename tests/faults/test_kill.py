"""SIGKILL before each call to the system: of an allocation, of a start, of an operator's order.

Points are counted, not guessed: the daemon dies before the first call that touches its sockets, its
state, its CDI files, its log or its view of device nodes, then before the second, until one run
ends alive.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping

import pytest

from deviceplugin.testing.pods import AdmissionError
from tests.fakes.syscalls import CHANGING, SOCKETS, Call, Point
from tests.faults.node import AMD, EACH, MEMORY, Node
from tests.faults.recovery import Recovering
from tests.rig import WAIT_S, DaemonProcess

WORKERS = 2  # each takes every second point
MOST = 200
# `make faults` goes before every call of a start, other runs before every sixth.
START_STEP = 1 if os.environ.get("FAULTS_ALL") else 6


# Of each file one at most, since its name follows from the file's.
LEFT = re.compile(r"\.[\w.-]+\.json\.new")


def at(node: Node, number: int, calls: Call = CHANGING | SOCKETS | Call.STAT) -> Point:
    """The call of this number that is about anything below the node."""
    return Point(calls, f"{node.rig.root}/", skip=number, times=1)


async def ended(daemon: DaemonProcess) -> None:
    assert await asyncio.to_thread(daemon.process.wait, WAIT_S) == -9


def assert_files_are_whole(node: Node) -> None:
    """What is there can be read, and what is left of a write that was cut off is one file each."""
    for directory in (node.rig.state_dir, node.rig.cdi_dir):
        for path in directory.glob("*.json"):
            json.loads(path.read_text())
        left = [path.name for path in directory.glob(".*")]
        assert all(LEFT.fullmatch(name) for name in left), left
    for daemon in node.rig.daemons:
        events = {event["event"] for event in daemon.events()}
        assert not events & {"state_file_damaged", "state_ignored", "task_failed"}, events


def gpu_of(device: str) -> str:
    return device.partition("-16gi-m")[0]


class Pods:
    """The pods of a test, each with one GPU whole or with one slice; those that were admitted keep
    what they have."""

    def __init__(self, node: Node, resource: str) -> None:
        self.node, self.resource = node, resource
        self.held: dict[str, str] = {}

    async def admit(self, name: str) -> bool:
        """Whether the pod got an answer."""
        stub = self.node.rig.stub
        try:
            admission = await stub.admit(name, {"main": {self.resource: 1}})
        except AdmissionError:
            return False
        (self.held[name],) = admission.of("main", self.resource).device_ids
        return True

    @property
    def gpus(self) -> list[str]:
        """The GPUs that are in use, in the order of admission."""
        return list(dict.fromkeys(gpu_of(device) for device in self.held.values()))

    def expected(self) -> Mapping[str, int]:
        """What can still be had: a GPU that is held in one form is gone in the other."""
        other, each = (MEMORY, EACH) if self.resource == AMD else (AMD, 1)
        full = self.node.full
        return {**full, other: full[other] - each * len(self.gpus)}

    async def assert_exclusive(self) -> None:
        """Nobody can have in another form what a pod holds."""
        for gpu in self.gpus:
            other = MEMORY if self.resource == AMD else AMD
            device = next(name for name in self.node.ids()[other] if gpu_of(name) == gpu)
            with pytest.raises(Exception, match=r"Unhealthy|in.use.as"):
                await self.node.rig.stub.allocate(other, [device])


@pytest.mark.parametrize("resource", [AMD, MEMORY], ids=["whole", "slice"])
@pytest.mark.parametrize("worker", range(WORKERS))
async def test_killed_at_any_call_of_an_allocation_it_forgets_no_pod(
    node: Node, resource: str, worker: int, recovering: Recovering
) -> None:
    node.offer_forms()
    daemon = await node.up()
    ids, pods = node.ids(), Pods(node, resource)
    for number in range(worker, MOST, WORKERS):
        node.faults.kill(at(node, number))
        if await pods.admit(f"pod-{number}"):
            gpu = gpu_of(pods.held[f"pod-{number}"])
            await node.turn_written_or_dead(daemon, resource, gpu)
        node.faults.clear()
        if daemon.process.poll() is None and not node.faults.fired:
            break
        await ended(daemon)
        assert_files_are_whole(node)
        with recovering("SIGKILL at a call of an allocation"):
            daemon = node.start()
            await node.lists(pods.expected())
        assert node.ids() == ids, node.faults.where
        await pods.assert_exclusive()
    else:
        pytest.fail(f"an allocation has more than {MOST} calls")
    assert number > 10
    assert node.rig.stub.violations == []


@pytest.mark.parametrize("worker", range(WORKERS))
async def test_killed_at_any_call_of_its_start_it_starts(node: Node, worker: int) -> None:
    await node.rig.stub.start()
    places = [f"{node.rig.root}/{name}/" for name in ("state", "cdi", "k")]
    for number in range(worker * START_STEP, MOST, WORKERS * START_STEP):
        for path in node.rig.cdi_dir.glob("*.json"):
            path.unlink()
        calls = CHANGING | SOCKETS
        node.faults.kill(*(Point(calls, place, number, 1) for place in places))
        daemon = node.start()
        await node.right_or_dead(daemon)
        if daemon.process.poll() is None:
            break
        await ended(daemon)
        assert_files_are_whole(node)
    else:
        pytest.fail(f"a start has more than {MOST} calls")
    assert number > 10
    assert list(node.rig.cdi_dir.glob(".*")) == []


async def test_killed_at_any_call_of_a_cordon_it_keeps_its_word(
    node: Node, recovering: Recovering
) -> None:
    daemon = await node.up()
    state, device = node.rig.state_dir, min(node.rig.healthy(AMD))
    for number in range(MOST):
        node.faults.kill(Point(CHANGING | SOCKETS, f"{state}/", number, 1))
        said = not await node.order("cordon", device)
        node.faults.clear()
        if daemon.process.poll() is None and not node.faults.fired:
            assert said
            break
        await ended(daemon)
        assert_files_are_whole(node)
        cordoned = node.remembers(device)
        assert cordoned or not said, f"lost: {node.faults.where}"
        with recovering("SIGKILL at a call of a cordon"):
            daemon = node.start()
            await node.lists({**node.full, AMD: 1 if cordoned else 2})
        assert await node.order("uncordon", device) == ""
        await node.lists(node.full)
    else:
        pytest.fail(f"a cordon has more than {MOST} calls")
    assert number > 5
