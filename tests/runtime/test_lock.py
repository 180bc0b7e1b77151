"""One daemon a node: the second waits, and a directory that cannot be written costs no devices."""

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from deviceplugin.runtime.lock import only_daemon
from tests.rig import WAIT_S


async def test_the_second_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    serving = asyncio.Event()

    async def second() -> None:
        async with only_daemon(tmp_path):
            serving.set()

    with capture_logs() as logs:
        async with only_daemon(tmp_path):
            waiting = asyncio.create_task(second())
            async with asyncio.timeout(WAIT_S):
                while True:
                    if logs:
                        break
                    await asyncio.sleep(0.01)
            assert [entry["event"] for entry in logs] == ["waiting_for_other_daemon"]
            assert not serving.is_set()
        async with asyncio.timeout(WAIT_S):
            await serving.wait()
        await waiting
    assert len(logs) == 1  # told once, however long it waits


async def test_without_a_place_for_the_lock_the_daemon_serves_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        async with only_daemon(tmp_path / "file"):
            pass
    assert [entry["event"] for entry in logs] == ["no_lock"]


async def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with capture_logs() as logs:
        async with only_daemon(tmp_path):
            pass
    assert [entry["event"] for entry in logs] == ["no_lock"]
    assert not (tmp_path / "elsewhere").exists()
