"""The garbage collector waits until the first lists are out, and works after that."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from deviceplugin.daemon.parts import GarbagePart
from deviceplugin.runtime import garbage

PROGRAM = """
import atexit, gc, sys
from deviceplugin import __main__
sys.argv = ["deviceplugin", *sys.argv[1:]]
atexit.register(lambda: print(gc.isenabled(), flush=True))
__main__.main()
"""


class Thing:
    """What holds itself."""

    itself: object = None


@pytest.fixture
def paused() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


async def resumed(looked: asyncio.Event) -> None:
    """Run the part's task until it has done its work."""

    async def wait() -> None:
        await looked.wait()

    once = GarbagePart(wait, settle_s=0).tasks()["garbage_collector"]
    task = asyncio.ensure_future(once())
    await asyncio.sleep(0)
    assert not gc.isenabled()
    looked.set()
    while not gc.isenabled():  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_collections_wait_for_the_first_look_and_pass_over_what_is_there(
    paused: None,
) -> None:
    await resumed(asyncio.Event())
    assert gc.get_freeze_count() > 10_000


def test_a_collector_that_was_not_paused_is_left_alone() -> None:
    frozen = gc.get_freeze_count()
    garbage.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_what_is_settled_is_walked_once_and_then_no_more(paused: None) -> None:
    gone = weakref.finalize(thing := Thing(), lambda: None)
    thing.itself = thing
    gc.freeze()
    del thing
    assert gone.alive
    garbage.settle()
    assert not gone.alive
    assert gc.get_freeze_count() > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "enabled"), [(["run", "--nothing"], False), (["check", "--nothing"], True)]
)
def test_only_a_start_of_the_daemon_does_without_collections(
    arguments: list[str], *, enabled: bool
) -> None:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.strip() == str(enabled)
