"""NVIDIA's Multi-Process Service: a control daemon for each resource that shares through it, as a
child of ours. Its readiness gates the devices, its end is a fault until it is ready again.

Commands are those of NVIDIA's MPS documentation; the program is run without a shell, directories
are our own and nobody else's to write.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName
from deviceplugin.resources.plan import Resources
from deviceplugin.resources.shares import MIB
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.latest import Latest

log = structlog.get_logger()

RETRY_S = 5.0
READY_S, COMMAND_S, END_S = 30.0, 5.0, 1.0
PROBE = "get_default_active_thread_percentage"
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsService:
    """A resource that shares through MPS; `replicas` None where slices have limits of their own."""

    resource: ResourceName
    devices: tuple[Device, ...]
    replicas: int | None


def services_of(
    resources: Resources, devices: Mapping[DeviceID, Device]
) -> Mapping[ResourceName, MpsService]:
    """The services that a plan needs, with their devices in PCI order."""
    found: dict[ResourceName, MpsService] = {}
    for name, resource in resources.items():
        shares = {e.device: e.share for e in resource.devices if e.share and e.share.mps}
        known = [devices[device] for device in shares if device in devices]
        if known:
            counts = [s.count for s in shares.values() if s.unit_bytes is None]
            found[name] = MpsService(
                resource=name,
                devices=tuple(sorted(known, key=_pci_address)),
                replicas=max(counts, default=None),
            )
    return found


def limits(service: MpsService) -> Iterable[str]:
    """The server's own limits, which no client can raise: an equal part for each replica."""
    if service.replicas is None:
        return
    for index, device in enumerate(service.devices):
        if device.memory_bytes is not None:
            size = device.memory_bytes // service.replicas // MIB
            yield f"set_default_device_pinned_mem_limit {index} {size}M"
    yield f"set_default_active_thread_percentage {max(100 // service.replicas, 1)}"


class MpsControl:
    """One control daemon; `ready` while it answers with its limits set."""

    def __init__(self, program: str, root: Path, service: MpsService, changed: Callable[[], None]):
        self.service = service
        self.place = (program, root)
        self.ready = False
        self.reason = "it is starting"
        self._program, self._changed = program, changed
        self._folder, self._shm = root / service.resource, root / "shm"
        self._env = {
            "PATH": "/usr/bin:/bin",
            "CUDA_VISIBLE_DEVICES": ",".join(device.id for device in service.devices),
            "CUDA_MPS_PIPE_DIRECTORY": str(self._folder / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(self._folder / "log"),
        }

    async def once(self) -> None:
        """Run it until it ends, which is always an error; raises DevicePluginError."""
        await asyncio.to_thread(self._make_folders)
        if await self._command(PROBE):
            await self._adopt()
        daemon = await self._start("-f", stdin=asyncio.subprocess.DEVNULL)
        ended = asyncio.create_task(daemon.wait())
        try:
            await self._serve(daemon.pid, ended)
        except DevicePluginError as error:
            self._tell(ready=False, reason=str(error))
            raise
        finally:
            await _end(daemon, ended)

    async def _adopt(self) -> None:
        """Use the daemon that an earlier run of ours left when it was killed, until it ends:
        there can be no second one, and running containers are its clients."""
        await self._set_limits()
        self._tell(ready=True, reason="")
        log.info("mps_adopted", resource=self.service.resource)
        while await self._command(PROBE):  # noqa: ASYNC110  # nothing tells of its end
            await asyncio.sleep(RETRY_S)
        self._tell(ready=False, reason="its control daemon of an earlier run ended")

    async def _serve(self, pid: int, ended: "asyncio.Task[int]") -> None:
        await self._become_ready(ended)
        self._tell(ready=True, reason="")
        log.info("mps_ready", resource=self.service.resource, pid=pid)
        status = await asyncio.shield(ended)
        raise DevicePluginError(f"its control daemon ended with status {status}")

    def _tell(self, *, ready: bool, reason: str) -> None:
        self.ready, self.reason = ready, reason
        self._changed()

    def _make_folders(self) -> None:
        try:
            for folder in (self._folder / "pipe", self._folder / "log", self._shm):
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise DevicePluginError(f"{self._folder}: {error.strerror}") from error

    async def _become_ready(self, ended: "asyncio.Task[int]") -> None:
        try:
            async with asyncio.timeout(READY_S):
                while not ended.done():
                    if await self._command(PROBE):
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise DevicePluginError(f"no answer within {READY_S:g} s") from error
        if ended.done():
            raise DevicePluginError(f"its control daemon ended with status {ended.result()}")
        await self._set_limits()

    async def _set_limits(self) -> None:
        for command in limits(self.service):
            if not await self._command(command):
                raise DevicePluginError(f"it refused {command!r}")

    async def _command(self, text: str) -> bool:
        """Whether the daemon took a command; one that hangs is ended."""
        client = await self._start(stdin=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(COMMAND_S):
                await client.communicate(f"{text}\n".encode())
        except TimeoutError:
            return False
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        return client.returncode == 0

    async def _start(self, *arguments: str, stdin: int) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=stdin,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._env,
            )
        except OSError as error:
            raise DevicePluginError(f"{self._program}: {error.strerror}") from error


async def _end(daemon: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    """Ask it to end, then make it."""
    if ended.done():
        return
    daemon.terminate()
    try:
        await asyncio.wait([ended], timeout=END_S)
    finally:
        if not ended.done():
            daemon.kill()
    await ended


class MpsSupervisor:
    """Runs the control daemons that the plan needs; `changed` is told when one changes state."""

    def __init__(self, program: str | None, root: Path, changed: Callable[[], None]) -> None:
        self._program, self._root, self._changed = program, root, changed
        self._running: dict[ResourceName, tuple[MpsControl, asyncio.Task[None]]] = {}

    def use(self, program: str | None, root: Path) -> None:
        """Take these from the next plan on; None, as no rule needs it: pods may still do."""
        self._program, self._root = program or self._program, root

    async def follow(
        self, resources: Latest[Resources], devices: Callable[[], Mapping[DeviceID, Device]]
    ) -> None:
        """Bring the daemons in line with each newest plan; until cancelled, then all end."""
        try:
            async for planned in resources.changes():
                if self._program is not None:
                    await self._reconcile(self._program, services_of(planned, devices()))
        finally:
            await self._stop(list(self._running))

    def faults(self, resources: Resources, devices: Mapping[DeviceID, Device]) -> tuple[Fault, ...]:
        """A fault on each device whose service is not ready."""
        return tuple(
            _fault(device, service, self._reason(service))
            for service in services_of(resources, devices).values()
            if not self._is_ready(service)
            for device in service.devices
        )

    def _is_ready(self, service: MpsService) -> bool:
        running = self._running.get(service.resource)
        return running is not None and running[0].ready

    def _reason(self, service: MpsService) -> str:
        running = self._running.get(service.resource)
        return running[0].reason if running else "it is starting"

    async def _reconcile(self, program: str, wanted: Mapping[ResourceName, MpsService]) -> None:
        """A daemon with another set of GPUs is another one; the end of the old ends its clients."""
        controls = {name: control for name, (control, _) in self._running.items()}
        place = (program, self._root)
        others = [n for n, c in controls.items() if c.place != place or not _same(c, wanted.get(n))]
        await self._stop(others)
        for name, service in wanted.items():
            if name not in self._running:
                control = MpsControl(program, self._root, service, self._changed)
                task = asyncio.create_task(keep(f"mps {name}", control.once, RETRY_S))
                self._running[name] = (control, task)

    async def _stop(self, names: Iterable[ResourceName]) -> None:
        tasks = [self._running.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _same(control: MpsControl, service: MpsService | None) -> bool:
    if service is None:
        return False
    ours = [device.id for device in control.service.devices]
    same_gpus = ours == [device.id for device in service.devices]
    return same_gpus and control.service.replicas == service.replicas


def _fault(device: Device, service: MpsService, reason: str) -> Fault:
    return Fault(
        device=device.id,
        source="mps",
        code="mps_not_ready",
        reason=f"MPS of {service.resource} does not serve: {reason}",
        action="see the logs below the MPS root, and whether another MPS uses the GPU",
        kind=FaultClass.SETUP,
    )


def _pci_address(device: Device) -> tuple[str, str]:
    return (device.pci_address or "", device.id)
