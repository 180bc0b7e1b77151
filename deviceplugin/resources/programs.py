"""The programs of sharing methods: a child of ours for each resource that is shared by one. Its
readiness gates the devices, its end is a fault until it serves again.

Which program it is, its commands and its environment are the method's, so a vendor's. Programs
are run without a shell.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName
from deviceplugin.resources.methods import Launches
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.section import Method
from deviceplugin.resources.services import Service, Wanted, services_of
from deviceplugin.runtime.files import trusted_directory
from deviceplugin.runtime.guard import outcome_of
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.latest import Latest
from deviceplugin.vendor import Command, SharedResource

log = structlog.get_logger()

RETRY_S = 5.0
READY_S, COMMAND_S, END_S = 30.0, 5.0, 1.0
_POLL_S = 0.05
_UMASK = 0o022  # its pipes are for the users of containers; ours is stricter
_STARTING = "it is starting"


class Control:
    """One program; `ready` while it answers with its setup done."""

    def __init__(self, wanted: Wanted, changed: Callable[[], None]) -> None:
        self.wanted = wanted
        self.ready = False
        self.reason = _STARTING
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
        child = await self._start(self._program.arguments, asyncio.subprocess.DEVNULL)
        ended = asyncio.create_task(child.wait())
        try:
            await self._serve(child.pid, ended)
        finally:
            await _end(child, ended)

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
        status = await asyncio.shield(ended)
        raise DevicePluginError(f"its control daemon ended with status {status}")

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
            raise DevicePluginError(f"its control daemon ended with status {ended.result()}")
        await self._set_up()

    async def _set_up(self) -> None:
        for command in self._program.setup:
            if not await self._succeeds(command):
                raise DevicePluginError(f"it refused {command.text.strip()!r}")
        await asyncio.to_thread(_link, self._program.links)

    async def _succeeds(self, command: Command) -> bool:
        """Whether a command ends with status 0; one that hangs is ended."""
        client = await self._start(command.arguments, asyncio.subprocess.PIPE)
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

    async def _start(self, arguments: tuple[str, ...], stdin: int) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *arguments,
                stdin=stdin,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
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


class Programs:
    """Runs the programs that the plan needs; `changed` is called when one changes state."""

    def __init__(self, launches: Launches, changed: Callable[[], None]) -> None:
        self._launches: Latest[Launches] = Latest(launches)
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()
        self._running: dict[ResourceName, tuple[Control, asyncio.Task[None]]] = {}
        self._problems: dict[ResourceName, str] = {}

    def use(self, launches: Launches) -> None:
        """Start by these from now on. A method that no rule names any more keeps its launch: pods
        may still hold what it shares."""
        self._launches.set({**self._launches.value, **launches})

    async def follow(
        self, resources: Latest[Resources], devices: Callable[[], Mapping[DeviceID, Device]]
    ) -> None:
        """Bring the programs in line with each newest plan and the newest settings; until
        cancelled, then all end."""

        async def reconcile(changes: AsyncIterator[object]) -> None:
            async for _ in changes:
                async with self._one_at_a_time:
                    await self._reconcile(services_of(resources.value, devices()))

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reconcile(resources.changes()))
                tasks.create_task(reconcile(self._launches.changes()))
                tasks.create_task(self._retry(resources, devices))
        finally:
            await self._stop(list(self._running))

    async def _retry(
        self, resources: Latest[Resources], devices: Callable[[], Mapping[DeviceID, Device]]
    ) -> None:
        """Nothing tells when a program that was absent is there."""
        while True:
            await asyncio.sleep(RETRY_S)
            async with self._one_at_a_time:
                if self._problems:
                    await self._reconcile(services_of(resources.value, devices()))

    def faults(
        self,
        resources: Resources,
        devices: Mapping[DeviceID, Device],
        methods: Mapping[str, Method],
    ) -> tuple[Fault, ...]:
        """A fault on each device whose program does not serve."""
        return tuple(
            fault
            for method, shared in services_of(resources, devices).values()
            if method in methods and not self._is_ready(shared.name)
            for fault in _faults(shared, methods[method], self._reason(method, shared))
        )

    def _is_ready(self, name: ResourceName) -> bool:
        running = self._running.get(name)
        return running is not None and running[0].ready

    def _reason(self, method: str, shared: SharedResource) -> str:
        running = self._running.get(shared.name)
        if running:
            return running[0].reason
        # Looked for at once: what is said first of a fault is what is logged.
        launch = self._launches.value.get(method)
        outcome = outcome_of(partial(launch, shared)) if launch else None
        return str(outcome) if isinstance(outcome, DevicePluginError) else _STARTING

    async def _reconcile(self, services: Mapping[ResourceName, Service]) -> None:
        """The end of a program ends its clients, so it stays where nothing of it changed."""
        before = self._problems
        wanted = dict(self._wanted(services))
        controls = {name: control for name, (control, _) in self._running.items()}
        # One whose program cannot be named just now stays: its clients are running containers.
        others = [
            name
            for name, control in controls.items()
            if name not in self._problems and not control.wanted.same(wanted.get(name))
        ]
        await self._stop(others)
        for name, one in wanted.items():
            if name not in self._running:
                control = Control(one, self._changed)
                task = asyncio.create_task(keep(f"{one.method} {name}", control.once, RETRY_S))
                self._running[name] = (control, task)
        if self._problems != before:
            self._changed()

    def _wanted(
        self, services: Mapping[ResourceName, Service]
    ) -> Iterable[tuple[ResourceName, Wanted]]:
        self._problems = {}
        for name, (method, shared) in services.items():
            launch = self._launches.value.get(method)
            if launch is None:
                continue
            try:
                program = launch(shared)
            except DevicePluginError as error:  # a vendor's method, and logged there
                self._problems[name] = str(error)
            else:
                yield name, Wanted(method, shared, program)

    async def _stop(self, names: Iterable[ResourceName]) -> None:
        tasks = [self._running.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _faults(shared: SharedResource, method: Method, reason: str) -> Iterable[Fault]:
    """One on each device of a resource whose program does not serve."""
    for device in shared.devices:
        yield Fault(
            device=device.id,
            source=method.name,
            code=f"{method.name}_not_ready",
            reason=f"{method.title} of {shared.name} does not serve: {reason}",
            action=method.advice,
            kind=FaultClass.SETUP,
        )
