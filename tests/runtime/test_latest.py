"""Waiting for values: nobody misses the newest, nobody gets every one."""

import asyncio

from deviceplugin.runtime.latest import Latest


async def test_a_slow_reader_skips_to_the_newest() -> None:
    latest = Latest(0)
    seen = []

    async def read() -> None:
        async for value in latest.changes():
            seen.append(value)
            if value == 3:
                return

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    for value in (1, 2, 3):
        latest.set(value)
    await reader
    assert seen == [0, 3]


async def test_waiting_for_a_value_counts_the_present_one() -> None:
    assert await Latest(5).until(lambda value: value > 4) == 5
