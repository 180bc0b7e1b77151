"""`deviceplugin diagnose --active` beside a running daemon, on doubles of NVML and of CUDA."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.diagnose.active.history import read_past
from deviceplugin.health.records import UNDER_TEST
from deviceplugin.runtime.control import NoDaemonError, ask_daemon
from tests.fakes.cuda import cuda_folder
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, environment, two_a100

pytestmark = pytest.mark.slow  # the daemon, the command and its child are processes
CONFIG = """\
diagnostics:
  enabled: false
  tests:
    - {name: memory_test, duration: 10ms, threshold: 95%}
    - {name: compute_test, duration: 10ms, threshold: 90%}
    - {name: thermal_test, duration: 10ms, threshold: 85°C}
"""


class Node:
    """A rig with a daemon that serves two GPUs."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.double = two_a100(rig.host_root)
        self.gpus = [gpu.uuid for gpu in self.double.scenario.gpus]
        self.addresses = [gpu.bdf for gpu in self.double.scenario.gpus]
        self.launches = rig.root / "launches"
        self.configured = f"--config={rig.config(CONFIG)}"
        self.daemon: DaemonProcess = self.start()

    def start(self) -> DaemonProcess:
        self.daemon = self.rig.start(self.configured)
        return self.daemon

    async def serves(self) -> None:
        await self.rig.stub.wait_registered(GPU)
        await self.rig.allocatable({GPU: 2})

    def popen(self, *flags: str, fault: str = "") -> "subprocess.Popen[str]":
        variables = {
            "LD_LIBRARY_PATH": str(cuda_folder()),
            "FAKE_CUDA_GPUS": ",".join(self.addresses),
            "FAKE_CUDA_COUNT": str(self.launches),
            "FAKE_CUDA": fault,
        }
        places = (f"--host-root={self.rig.host_root}", f"--state-dir={self.rig.state_dir}")
        command = [sys.executable, "-m", "deviceplugin", "diagnose", "--active", "--format=json"]
        return subprocess.Popen(
            [*command, self.configured, *places, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | variables,
        )

    async def test(self, *flags: str, fault: str = "") -> tuple[int, dict[str, Any], str]:
        """Exit status, document and standard error."""
        with self.popen(*flags, fault=fault) as process:
            out, err = await asyncio.to_thread(process.communicate, None, WAIT_S)
        return process.returncode, json.loads(out) if out.startswith("{") else {}, err

    def reasons(self) -> list[str]:
        """Of the cordons that the daemon has; one that starts has none that it could tell."""
        try:
            shown = ask_daemon(self.rig.state_dir, {"operation": "health"})
        except NoDaemonError as error:
            return [str(error)]
        return [
            fault["reason"]
            .removeprefix("cordoned for an ")
            .removeprefix("cordoned by an operator: ")
            for device in shown["devices"]
            for fault in device["faults"]
            if fault["code"] == "cordon"
        ]

    def launched(self) -> Sequence[str]:
        return self.launches.read_text().splitlines() if self.launches.exists() else []

    async def under_test(self, process: "subprocess.Popen[str]") -> None:
        """A kernel runs; a command that has ended instead tells why."""

        def began() -> bool:
            assert process.poll() is None, process.communicate()
            return bool(self.launched())

        await self.daemon.until(began)
        await self.daemon.until(lambda: any(UNDER_TEST in reason for reason in self.reasons()))

    async def free(self) -> None:
        await self.daemon.until(lambda: not self.reasons(), self.reasons)
        await self.rig.allocatable({GPU: 2})


@pytest.fixture
async def node(rig: Rig) -> Node:
    await rig.stub.start()
    found = Node(rig)
    await found.serves()
    return found


def verdicts(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["check"], one["subject"]): one["verdict"] for one in document["checks"]}


async def test_every_gpu_is_tested_given_back_and_remembered(node: Node) -> None:
    status, document, err = await node.test()
    assert status == 0, (document, err)
    tests = ("memory_test", "compute_test", "thermal_test")
    assert verdicts(document) == {(test, gpu): "pass" for gpu in node.gpus for test in tests}
    kinds = {line.rpartition("_")[2] for line in node.launched()}
    assert kinds == {"fill", "check", "burn", "tensor"}
    await node.free()
    assert len(read_past(node.rig.state_dir)) == 6
    ended = node.daemon.events("active_test_ended")
    assert [event["device"] for event in ended] == node.gpus
    await node.daemon.shows(rf'deviceplugin_active_test_failed{{device="{node.gpus[0]}".*}} 0')
    await node.daemon.shows(r"deviceplugin_active_test_value{.*memory_test.*} 115\.2")


async def test_a_gpu_with_wrong_memory_stays_cordoned_and_the_other_is_given_back(
    node: Node,
) -> None:
    status, document, _ = await node.test(f"--device={node.gpus[0]}", fault="wrong-memory")
    assert status == 1
    found = {one["check"]: one for one in document["checks"] if one["verdict"] == "fail"}
    assert "wrong results" in found["memory_test"]["value"]
    (reason,) = node.reasons()
    assert reason.startswith("it failed its memory_test: ")
    await node.rig.allocatable({GPU: 1})
    shown = ask_daemon(node.rig.state_dir, {"operation": "health"})
    assert "active tests failed: memory_test" in " ".join(shown["notices"])


async def test_a_held_gpu_is_never_launched_on(node: Node) -> None:
    await node.rig.stub.admit("train", {"main": {GPU: 2}})
    status, document, _ = await node.test(f"--device={node.gpus[0]}")
    assert (status, node.launched()) == (1, [])
    (one,) = document["checks"]
    assert one["verdict"] == "skipped"
    assert "in use by default/train" in one["value"]
    assert node.reasons() == []


async def test_a_test_that_is_killed_leaves_a_gpu_that_the_daemon_gives_back(node: Node) -> None:
    with node.popen(fault="hang") as process:
        await node.under_test(process)
        assert node.rig.healthy(GPU) != set(node.gpus)
        process.send_signal(signal.SIGKILL)
    await node.free()
    assert [event["device"] for event in node.daemon.events("active_test_cut_off")] == node.gpus[:1]


async def test_a_test_that_is_told_to_stop_gives_its_gpu_back(node: Node) -> None:
    with node.popen(fault="hang") as process:
        await node.under_test(process)
        process.send_signal(signal.SIGTERM)
    assert process.returncode != 0
    await node.free()
    assert node.daemon.events("active_test_cut_off") == []


async def test_a_daemon_that_starts_again_knows_what_a_killed_test_cordoned(node: Node) -> None:
    ask_daemon(
        node.rig.state_dir,
        {"operation": "cordon", "device": node.gpus[1], "reason": "ticket 7"},
    )
    with node.popen(f"--device={node.gpus[0]}", fault="hang") as process:
        await node.under_test(process)
        await node.daemon.stop(signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)
    node.start()
    await node.daemon.wait_event("active_test_cut_off", device=node.gpus[0])
    await node.daemon.until(lambda: node.reasons() == ["ticket 7"], node.reasons)


async def test_a_daemon_that_starts_again_keeps_the_gpu_of_a_test_that_runs(node: Node) -> None:
    with node.popen(f"--device={node.gpus[0]}", fault="hang") as process:
        await node.under_test(process)
        await node.daemon.stop(signal.SIGKILL)
        node.start()
        await node.daemon.wait_event("metrics_served")
        await node.daemon.until(lambda: any(UNDER_TEST in reason for reason in node.reasons()))
        assert node.daemon.events("active_test_cut_off") == []
        process.send_signal(signal.SIGTERM)
    await node.free()


async def test_two_tests_at_once_are_one(node: Node) -> None:
    with node.popen(fault="hang") as process:
        await node.under_test(process)
        status, _, err = await node.test()
        assert (status, "another test runs" in err) == (1, True)
        process.send_signal(signal.SIGTERM)
    await node.free()


def test_without_a_daemon_nothing_is_tested(rig: Rig, tmp_path: Path) -> None:
    two_a100(rig.host_root)
    rig.state_dir.mkdir(mode=0o700)
    launches = tmp_path / "launches"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deviceplugin", "diagnose", "--active", "--format=json"),
            *(f"--host-root={rig.host_root}", f"--state-dir={rig.state_dir}", "--device=0"),
        ],
        env=environment()
        | {"LD_LIBRARY_PATH": str(cuda_folder()), "FAKE_CUDA_COUNT": str(launches)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, launches.exists()) == (1, False)
    assert "no daemon answers" in done.stdout
