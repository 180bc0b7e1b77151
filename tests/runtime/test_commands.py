"""A command whose output is read."""

import asyncio
import sys

import pytest

from deviceplugin.errors import DevicePluginError
from deviceplugin.runtime.commands import Printed, printed
from tests.rig import WAIT_S

pytestmark = pytest.mark.slow  # each is a process


async def run(code: str, deadline_s: float = WAIT_S) -> Printed:
    return await printed((sys.executable, "-S", "-c", code), deadline_s, most=1 << 20)


async def test_what_is_printed_is_read_with_the_status() -> None:
    assert await run("import sys; print('x'); sys.exit(3)") == Printed(text=b"x\n", status=3)


async def test_of_what_is_said_on_standard_error_the_end_is_read_as_one_line() -> None:
    done = await run("import sys; sys.stderr.write('y ' * 100000 + '\\n why')")
    assert (done.text, done.status, done.said[-5:]) == (b"", 0, "y why")
    assert len(done.said) <= 4096


async def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(DevicePluginError, match=r"no answer within 0\.05 s"):
        async with asyncio.timeout(WAIT_S):
            await run("import signal; signal.pause()", 0.05)


async def test_a_command_that_prints_for_ever_is_killed() -> None:
    with pytest.raises(DevicePluginError, match="more than 1 MiB"):
        async with asyncio.timeout(WAIT_S):
            await run("while True: print('x' * 100000)")


async def test_a_command_that_is_not_there_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        await printed(("/no/such/program",), WAIT_S)
