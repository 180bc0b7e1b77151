"""One program of a sharing method: it is run as a child of ours, gates the devices while it does
not serve, and is started again when it ends.

Programs are run without a shell, each in a process group of its own: what one leaves behind when
it ends is ended with it.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.resources.services import Wanted
from deviceplugin.runtime.files import trusted_directory
from deviceplugin.runtime.programs import (
    adopt_orphans,
    bound_output,
    end_group,
    last_line,
    open_output,
)
from deviceplugin.vendor import Command

T = TypeVar("T")
log = structlog.get_logger()

RETRY_S = 5.0
READY_S, COMMAND_S, END_S = 30.0, 5.0, 1.0
OUTPUT_S = 60.0  # between two looks at how large its output is
STARTING = "it is starting"
_POLL_S = 0.05
_UMASK = 0o022  # its pipes are for the users of containers; ours is stricter


class Control:
    """One program; `ready` while it answers with its setup done."""

    def __init__(self, wanted: Wanted, changed: Callable[[], None]) -> None:
        self.wanted = wanted
        self.ready = False
        self.reason = STARTING
        self._program, self._changed = wanted.program, changed

    async def once(self) -> None:
        """Run it until it ends, which is always an error; raises DevicePluginError."""
        try:
            await self._run()
        except DevicePluginError as error:
            self._set(ready=False, reason=str(error))
            raise

    async def _run(self) -> None:
        await asyncio.to_thread(_make_folders, self._program.folders)
        if self._program.probe and await self._succeeds(self._program.probe):
            await self._adopt(self._program.probe)
        child = await self._started()
        ended = asyncio.create_task(child.wait())
        try:
            await self._serve(child.pid, ended)
        finally:
            await _end(child, ended)
            await end_group(child.pid, END_S)

    async def _adopt(self, probe: Command) -> None:
        """Use the program that an earlier run of ours left when it was killed, until it ends:
        there can be no second one, and running containers are its clients."""
        await self._set_up()
        self._set(ready=True, reason="")
        self._log("adopted")
        while await self._succeeds(probe):  # noqa: ASYNC110  # nothing tells of its end
            await asyncio.sleep(RETRY_S)
        self._set(ready=False, reason="its control daemon of an earlier run ended")

    async def _serve(self, pid: int, ended: "asyncio.Task[int]") -> None:
        await self._become_ready(ended)
        self._set(ready=True, reason="")
        self._log("ready", pid=pid)
        while not ended.done():
            await asyncio.wait([ended], timeout=OUTPUT_S)
            await self._output(bound_output)
        raise await self._ended(ended)

    async def _ended(self, ended: "asyncio.Task[int]") -> DevicePluginError:
        line = await self._output(last_line)
        said = f": {line}" if line else ""
        return DevicePluginError(f"its control daemon ended with status {ended.result()}{said}")

    async def _output(self, call: Callable[[Path], T]) -> T | None:
        path = self._program.output
        return None if path is None else await asyncio.to_thread(call, Path(path))

    def _log(self, what: str, **fields: object) -> None:
        """An event with the method's name: `mps_ready`."""
        event = f"{self.wanted.method}_{what}"
        log.info(event, resource=self.wanted.shared.name, **fields)

    def _set(self, *, ready: bool, reason: str) -> None:
        self.ready, self.reason = ready, reason
        self._changed()

    async def _become_ready(self, ended: "asyncio.Task[int]") -> None:
        try:
            async with asyncio.timeout(READY_S):
                while self._program.probe and not ended.done():
                    if await self._succeeds(self._program.probe):
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise DevicePluginError(f"no answer within {READY_S:g} s") from error
        if ended.done():
            raise await self._ended(ended)
        await self._set_up()

    async def _set_up(self) -> None:
        for command in self._program.setup:
            if not await self._succeeds(command):
                raise DevicePluginError(f"it refused {command.text.strip()!r}")
        await asyncio.to_thread(_link, self._program.links)

    async def _succeeds(self, command: Command) -> bool:
        """Whether a command ends with status 0; one that hangs is ended."""
        client = await self._start(command.arguments, stdin=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(COMMAND_S):
                await client.communicate(command.text.encode())
        except TimeoutError:
            return False
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        return client.returncode == 0

    async def _started(self) -> asyncio.subprocess.Process:
        """The program itself, with its output where the method says."""
        adopt_orphans()
        try:
            output = await self._output(open_output)
        except OSError as error:
            raise DevicePluginError(str(error)) from error
        try:
            out = asyncio.subprocess.DEVNULL if output is None else output
            arguments = self._program.arguments
            return await self._start(arguments, stdout=out, stderr=out, start_new_session=True)
        finally:
            if output is not None:
                os.close(output)

    async def _start(self, arguments: tuple[str, ...], **how: int) -> asyncio.subprocess.Process:
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.DEVNULL)
        try:
            return await asyncio.create_subprocess_exec(
                *arguments,
                **{**nothing, **how},  # type: ignore[arg-type]  # each is a number
                env=dict(self._program.env),
                umask=_UMASK,
            )
        except OSError as error:
            raise DevicePluginError(f"{arguments[0]}: {error.strerror}") from error


def _make_folders(folders: Iterable[str]) -> None:
    """Whoever else could write them could put a pipe of his own there."""
    for folder in folders:
        try:
            trusted_directory(Path(folder))
        except OSError as error:
            raise DevicePluginError(f"{folder}: {error.strerror}") from error


def _link(links: Mapping[str, str]) -> None:
    """A second name of the same file, in place of that of an earlier run."""
    for file, name in links.items():
        fresh = f"{name}.new"
        try:
            Path(fresh).unlink(missing_ok=True)
            os.link(file, fresh, follow_symlinks=False)
            os.replace(fresh, name)
        except OSError as error:
            raise DevicePluginError(f"{file} as {name}: {error.strerror}") from error
        finally:
            # A rename onto a name of the same file does nothing, and leaves both.
            Path(fresh).unlink(missing_ok=True)


async def _end(child: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    """Ask it to end, then make it."""
    if ended.done():
        return
    child.terminate()
    try:
        await asyncio.wait([ended], timeout=END_S)
    finally:
        if not ended.done():
            child.kill()
    await ended
