"""How `discover`, `explain` and `health` find the daemon, and what they say where it is not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deviceplugin.cli.ask import view
from deviceplugin.config.last_good import state_dir_of
from deviceplugin.runtime.control import Control
from deviceplugin.runtime.part import Operation, Reply
from deviceplugin.schema import Section


class Request(Section, frozen=True):
    operation: str


async def answer(_: Request) -> Reply:
    return {"node": "node-1"}


@pytest.fixture
async def state_dir(short_dir: Path) -> AsyncIterator[Path]:
    """That of a daemon that answers `discover`, and knows nothing of `explain`."""
    control = Control({"discover": Operation(Request, answer)})
    serving = asyncio.create_task(control.serve(short_dir))
    await control.listening.wait()
    yield short_dir
    serving.cancel()
    await asyncio.wait([serving])


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "STATE_DIR", "HOST_ROOT", "VENDORS"):
        monkeypatch.delenv(f"DEVICEPLUGIN_{name}", raising=False)


async def test_the_daemon_is_asked_and_nothing_is_said(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"state_dir": str(state_dir)}
    assert await asyncio.to_thread(view, flags, {"operation": "discover"}) == {"node": "node-1"}
    assert capsys.readouterr().err == ""


async def test_an_older_daemon_is_no_reason_to_fail(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"state_dir": str(state_dir)}
    assert await asyncio.to_thread(view, flags, {"operation": "explain"}) is None
    assert "this is what the node shows now" in capsys.readouterr().err


async def test_a_flag_that_means_another_view_is_obeyed_and_said(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"state_dir": str(state_dir), "host_root": "/host"}
    assert await asyncio.to_thread(view, flags, {"operation": "discover"}) is None
    assert "by --host-root the node itself is looked at" in capsys.readouterr().err


def test_no_daemon_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert view({"state_dir": str(tmp_path)}, {"operation": "discover"}) is None
    text = capsys.readouterr().err
    assert text.startswith(f"no daemon answers on {tmp_path}/control.sock: none runs on this node")
    assert text.endswith(": this is what the node shows now\n")


def test_an_invalid_configuration_keeps_nobody_from_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "config.yaml"
    bad.write_text("state_dir: /run/of-the-file\nnonsense: 1\n")
    monkeypatch.setenv("DEVICEPLUGIN_CONFIG", str(bad))
    assert state_dir_of({}) == Path("/var/lib/deviceplugin")
    assert state_dir_of({"state_dir": "/run/else"}) == Path("/run/else")
