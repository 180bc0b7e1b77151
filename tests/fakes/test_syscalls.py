"""The layer below the daemon: each call that the tests rely on is met, and only where it should."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.syscalls import Call, Faults, Point
from tests.rig import environment

pytestmark = pytest.mark.slow

CALLS = {
    Call.OPEN: "open(d + '/file').close()",
    Call.CREATE: "open(d + '/new', 'w').close()",
    Call.READ: "open(d + '/file').read()",
    Call.WRITE: "os.write(os.open(d + '/file', os.O_WRONLY), b'x')",
    Call.FSYNC: "os.fsync(os.open(d + '/file', os.O_WRONLY))",
    Call.RENAME: "os.replace(d + '/file', d + '/other')",
    Call.UNLINK: "os.unlink(d + '/file')",
    Call.MKDIR: "os.mkdir(d + '/sub')",
    Call.CHMOD: "os.fchmod(os.open(d + '/file', os.O_WRONLY), 0o600)",
    Call.LIST: "os.listdir(d)",
    Call.STAT: "os.stat(d + '/file')",
    Call.READLINK: "os.readlink(d + '/link')",
    Call.BIND: "socket.socket(socket.AF_UNIX).bind(d + '/s')",
    Call.CONNECT: "socket.socket(socket.AF_UNIX).connect(d + '/none')",
    Call.ACCEPT: "listening().accept()",
    Call.SEND: "l = listening(); c = client(); c.sendmsg([b'x'])",
    Call.RECEIVE: "l = listening(); c = client(); l.accept()[0].sendall(b'x'); c.recvmsg(1)",
    Call.INOTIFY_WATCH: "Inotify().add_watch(d, Mask.CREATE)",
}
PROGRAM = """
import os, socket, sys
from deviceplugin.runtime.inotify import Inotify, Mask
d = sys.argv[1]
def listening():
    l = socket.socket(socket.AF_UNIX)
    l.bind(d + '/l')
    l.listen()
    l.setblocking(False)
    return l
def client():
    c = socket.socket(socket.AF_UNIX)
    c.connect(d + '/l')
    return c
try:
    exec(sys.argv[2])
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def faults(short_dir: Path) -> Faults:
    (short_dir / "file").write_text("text")
    (short_dir / "link").symlink_to("file")
    return Faults(short_dir / "faults")


def run(faults: Faults, directory: Path, statement: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), statement],
        env=environment() | faults.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_each_call_can_be_made_to_fail(faults: Faults, short_dir: Path, call: Call) -> None:
    faults.fail(errno.EXDEV, Point(call, str(short_dir)))
    assert run(faults, short_dir, CALLS[call]).stdout.strip() == str(errno.EXDEV)
    assert faults.fired == 1
    assert faults.where.startswith(str(call.name).lower().replace("_watch", "_add_watch"))


def test_inotify_instances_can_run_out(faults: Faults, short_dir: Path) -> None:
    faults.fail(errno.EMFILE, Point(Call.INOTIFY_INIT, ""))
    ended = run(faults, short_dir, "Inotify()")
    assert ended.stdout.strip() == str(errno.EMFILE)


def test_other_paths_other_calls_and_other_numbers_go_through(
    faults: Faults, short_dir: Path
) -> None:
    point = Point(Call.MKDIR, f"{short_dir}/a", skip=1, times=1)
    faults.fail(errno.ENOSPC, point)
    made = "os.mkdir(d + '/b'); os.mkdir(d + '/a1'); open(d + '/a2', 'w'); os.mkdir(d + '/a3')"
    assert run(faults, short_dir, made).stdout.strip() == str(errno.ENOSPC)
    assert sorted(path.name for path in short_dir.glob("[ab]*")) == ["a1", "a2", "b"]
    assert faults.where == f"mkdir {short_dir}/a3"


def test_a_process_can_be_killed_before_a_call(faults: Faults, short_dir: Path) -> None:
    faults.kill(Point(Call.RENAME, str(short_dir)))
    assert run(faults, short_dir, CALLS[Call.RENAME]).returncode == -9
    assert not (short_dir / "other").exists()


def test_the_clock_can_be_set(faults: Faults, short_dir: Path) -> None:
    faults.shift_clock(-1e9)
    ended = run(faults, short_dir, "import time; print(time.time() < 1e9)")
    assert ended.stdout.strip() == "True"


def test_without_a_fault_nothing_changes(faults: Faults, short_dir: Path) -> None:
    assert run(faults, short_dir, CALLS[Call.READ]).stdout == ""
    assert faults.fired == 0
