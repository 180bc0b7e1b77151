"""Output of children is kept and bounded; what they leave behind is ended and reaped."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from deviceplugin.runtime.programs import (
    MAX_OUTPUT_BYTES,
    bound_output,
    end_group,
    last_line,
    open_output,
)


def add(path: Path, text: bytes) -> None:
    descriptor = open_output(path)
    os.write(descriptor, text)
    os.close(descriptor)


def test_output_is_added_and_its_last_line_shown(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    assert last_line(path) == ""
    add(path, b"one\n")
    add(path, b"two \x1b[31m\n\n")
    assert path.read_bytes().startswith(b"one\ntwo")
    assert last_line(path).startswith("two")
    assert "\x1b" not in last_line(path)


def test_much_output_of_earlier_runs_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"x" * (MAX_OUTPUT_BYTES // 2 + 1))
    add(path, b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "output.log.old").stat().st_size == MAX_OUTPUT_BYTES // 2 + 1


def test_output_that_grows_is_emptied_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    descriptor = open_output(path)
    os.write(descriptor, b"x" * MAX_OUTPUT_BYTES)
    bound_output(path)
    assert path.stat().st_size == MAX_OUTPUT_BYTES
    os.write(descriptor, b"x")
    bound_output(path)
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert path.read_bytes() == b"after\n"


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_but_a_file_is_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    if kind == "link":
        path.symlink_to(tmp_path / "other")
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"\S"):
        open_output(path)
    assert not (tmp_path / "other").exists()


# It starts one that ends when it is asked to and one that does not, says their numbers, and ends.
LEAVES = """
import os, signal, sys
for deaf in (False, True):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
        sys.stdout.write(f"{os.getpid()}\\n")
        sys.stdout.flush()
        os.close(1)
        signal.pause()
"""
# In a process of its own: whoever adopts orphans adopts those of all its children.
ADOPTS = f"""
import asyncio, os, subprocess, sys
from deviceplugin.runtime.programs import adopt_orphans, end_group
adopt_orphans()
async def main():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", {LEAVES!r}, stdout=subprocess.PIPE, start_new_session=True
    )
    out, _ = await child.communicate()
    pids = [int(line) for line in out.split()]
    await end_group(child.pid, 0.5)
    print(len(pids), [pid for pid in pids if os.path.exists(f"/proc/{{pid}}")])
asyncio.run(main())
"""


@pytest.mark.slow
async def test_what_a_child_leaves_is_ended_and_reaped() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ADOPTS, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert out.decode().split(maxsplit=1) == ["2", "[]\n"]


@pytest.mark.slow
async def test_a_group_of_nobody_is_ended_at_once() -> None:
    child = await asyncio.create_subprocess_exec("true", start_new_session=True)
    await child.wait()
    await end_group(child.pid, 60.0)
