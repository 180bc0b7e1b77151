"""The kernel's inotify, asked for real; and the bytes of its events."""

import asyncio
import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from deviceplugin.runtime.inotify import Event, Inotify, Mask, parse_events

ALL = Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.CLOSE_WRITE


async def test_what_happens_in_a_directory_is_told_in_order(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.add_watch(tmp_path, ALL)
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(tmp_path / "b ü")
        (tmp_path / "b ü").unlink()
        assert await inotify.events() == [
            Event(Mask.CREATE, "a"),
            Event(Mask.CLOSE_WRITE, "a"),
            Event(Mask.MOVED_FROM, "a"),
            Event(Mask.MOVED_TO, "b ü"),
            Event(Mask.DELETE, "b ü"),
        ]


async def test_events_are_waited_for(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.add_watch(tmp_path, Mask.CREATE)
        waiting = asyncio.create_task(inotify.events())
        await asyncio.sleep(0)
        assert not waiting.done()
        (tmp_path / "a").touch()
        assert await waiting == [Event(Mask.CREATE, "a")]


async def test_a_wait_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.add_watch(tmp_path, Mask.CREATE)
        waiting = asyncio.create_task(inotify.events())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        (tmp_path / "a").touch()
        assert await inotify.events() == [Event(Mask.CREATE, "a")]


async def test_the_end_of_the_directory_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    with Inotify() as inotify:
        inotify.add_watch(directory, Mask.DELETE_SELF)
        directory.rmdir()
        assert await inotify.events() == [Event(Mask.DELETE_SELF, ""), Event(Mask.IGNORED, "")]


def test_what_cannot_be_watched_is_an_oserror(tmp_path: Path) -> None:
    with Inotify() as inotify:
        with pytest.raises(FileNotFoundError):
            inotify.add_watch(tmp_path / "none", Mask.CREATE)
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            inotify.add_watch(tmp_path / "file", Mask.CREATE | Mask.ONLYDIR)


def test_its_end_closes_it(tmp_path: Path) -> None:
    with Inotify() as inotify:
        pass
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        inotify.add_watch(tmp_path, Mask.CREATE)


def test_too_many_events_are_one_without_a_name() -> None:
    overflow = struct.pack("=iIII", -1, 0x4000, 0, 0)
    assert list(parse_events(overflow)) == [Event(Mask.Q_OVERFLOW, "")]


def test_bits_without_a_name_stay() -> None:
    directory_made = struct.pack("=iIII16s", 1, 0x40000100, 0, 16, b"sub")
    (event,) = parse_events(directory_made)
    assert event.name == "sub"
    assert event.mask & Mask.CREATE


@pytest.mark.slow
def test_no_program_is_started(tmp_path: Path) -> None:
    program = "from deviceplugin.runtime.inotify import Inotify; Inotify()"
    environment = {**os.environ, "PATH": str(tmp_path)}
    refuse = "import sys; sys.addaudithook(lambda e, _: e == 'subprocess.Popen' and sys.exit(3)); "
    subprocess.run([sys.executable, "-c", refuse + program], check=True, env=environment)
