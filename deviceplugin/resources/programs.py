"""The programs of sharing methods: a child of ours for each resource that is shared by one. Its
readiness gates the devices, its end is a fault until it serves again.

Which program it is, its commands and its environment are the method's, so a vendor's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName
from deviceplugin.resources.methods import Launches
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.program import RETRY_S, STARTING, Control
from deviceplugin.resources.section import Method
from deviceplugin.resources.services import Service, Wanted, services_of
from deviceplugin.runtime.guard import outcome_of
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.latest import Latest
from deviceplugin.vendor import SharedResource

log = structlog.get_logger()


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
        return str(outcome) if isinstance(outcome, DevicePluginError) else STARTING

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
