"""Work that fails is named, counted and goes on."""

import asyncio

from deviceplugin.runtime.guard import start_guarded
from deviceplugin.runtime.keep import keep
from tests.rig import WAIT_S


async def test_a_kept_task_outlives_its_failures() -> None:
    done = asyncio.Event()
    failures: list[str] = []

    async def once() -> None:
        if len(failures) < 2:
            raise ValueError("again")
        done.set()

    task = asyncio.create_task(keep("task", once, 0.0, failures.append))
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    assert failures == ["task", "task"]


def test_a_guarded_thread_ends_quietly_with_its_failure() -> None:
    def fail() -> None:
        raise ValueError("odd")

    thread = start_guarded("example", fail)
    thread.join(WAIT_S)
    assert not thread.is_alive()
