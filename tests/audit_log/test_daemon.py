"""The audit log of a daemon that serves, and the commands that read it."""

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.audit.segments import DIRECTORY, segments_of
from deviceplugin.audit.verify import verify_log
from tests.audit_log.logs import kinds
from tests.rig import WAIT_S, Rig, nvidia_node, run_command

pytestmark = pytest.mark.slow
GPU = "nvidia.com/gpu"


def audit(rig: Rig, *arguments: str) -> Mapping[str, Any]:
    command, *more = arguments
    done = run_command(
        "audit", command, "--state-dir", str(rig.state_dir), "--format", "json", *more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


async def until_recorded(log: Path, *wanted: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not (log.exists() and set(wanted) <= {*kinds(log)}):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_pod_is_in_the_log_from_its_allocation_to_its_end(rig: Rig) -> None:
    nvidia_node(rig)
    config = rig.config("audit: {enabled: true, retention: 7y}\n")
    log = rig.state_dir / DIRECTORY
    async with rig.stub:
        daemon = rig.start("--config", str(config))
        await rig.stub.wait_registered(GPU, timeout_s=WAIT_S)
        await rig.allocatable({GPU: 6})
        await rig.stub.admit("train", {"main": {GPU: 1}})
        await until_recorded(log, "allocation.granted", "allocation.held")
        rig.stub.remove_pod("train")
        await until_recorded(log, "allocation.released")
        assert await daemon.stop() == 0
    report = audit(rig, "verify")
    assert report["whole"] is True
    found = audit(rig, "query", "--pod", "default/train", "--type", "allocation")["records"]
    held, released = found
    assert held["type"] == "deviceplugin.allocation.held"
    assert released["type"] == "deviceplugin.allocation.released"
    assert held["data"]["container"] == "main"
    (given,) = audit(rig, "query", "--type", "allocation.granted")["records"]
    assert given["data"]["ids"] == held["data"]["ids"]
    (started,) = audit(rig, "query", "--type", "daemon.started")["records"]
    assert started["data"]["document"]["audit"] == {"enabled": True, "retention": "7y"}
    assert given["configuration"] == started["subject"]


async def test_a_daemon_that_is_killed_leaves_a_log_that_goes_on(rig: Rig) -> None:
    nvidia_node(rig)
    config = rig.config("audit: {enabled: true}\n")
    log = rig.state_dir / DIRECTORY
    async with rig.stub:
        for _ in range(2):
            daemon = rig.start("--config", str(config))
            await rig.stub.wait_registered(GPU, timeout_s=WAIT_S)
            await until_recorded(log, "daemon.started", "device.found")
            assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
            with segments_of(log)[-1].path.open("ab") as file:
                file.write(b'{"specversion":"1.0","id":"')
        daemon = rig.start("--config", str(config))
        await until_recorded(log, "recovered", "device.found")
        await daemon.wait_event("metrics_served")
        assert await daemon.stop() == 0
    assert verify_log(log).problems == []
    assert kinds(log).count("recovered") == 2
    assert kinds(log).count("daemon.started") == 3


async def test_an_edit_ends_verify_with_status_1(rig: Rig, tmp_path: Path) -> None:
    nvidia_node(rig)
    config = rig.config("audit: {enabled: true}\n")
    log = rig.state_dir / DIRECTORY
    async with rig.stub:
        daemon = rig.start("--config", str(config))
        await until_recorded(log, "device.found")
        assert await daemon.stop() == 0
    exported = run_command("audit", "export", "--state-dir", str(rig.state_dir))
    assert exported.returncode == 0
    path = tmp_path / "copy.jsonl"
    path.write_text(exported.stdout)
    assert run_command("audit", "verify", str(path)).returncode == 0
    edited = segments_of(log)[0].path
    edited.write_text(edited.read_text().replace("A100", "H100", 1))
    done = run_command("audit", "verify", "--state-dir", str(rig.state_dir))
    assert done.returncode == 1
    assert "is not the one that was written" in done.stdout
    assert "NOT WHOLE" in done.stdout


def test_without_a_log_the_commands_say_where_it_would_be(tmp_path: Path) -> None:
    done = run_command("audit", "verify", "--state-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/audit: there is no audit log" in done.stderr


def test_a_time_that_is_none_is_refused_with_what_to_write(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    done = run_command("audit", "query", "--state-dir", str(tmp_path), "--since", "yesterday")
    assert done.returncode == 2
    assert "--since: 'yesterday'" in done.stderr
    assert "2026-01-31T12:00Z" in done.stderr
