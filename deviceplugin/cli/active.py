"""`deviceplugin diagnose --active`: GPUs that nobody holds, tested one after the other."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from msgspec import Struct

from deviceplugin.cli.output import load_here, rendered
from deviceplugin.config.config import Config
from deviceplugin.diagnose.active.bench import GpuBench, Way
from deviceplugin.diagnose.active.driver import find_driver, variables_for
from deviceplugin.diagnose.active.history import read_past, write_past
from deviceplugin.diagnose.active.kfd import read_kfd_id
from deviceplugin.diagnose.active.lock import take
from deviceplugin.diagnose.active.order import Done, RefusedError, Tested, run_tests
from deviceplugin.diagnose.active.process import Runner
from deviceplugin.diagnose.active.room import lacking_room
from deviceplugin.diagnose.active.tools import Target, find_program, installed, missing
from deviceplugin.diagnose.active.values import Past, wishes
from deviceplugin.diagnose.active.verdict import judged, refused, result_of, unwell, why_kept
from deviceplugin.diagnose.model import Result, Verdict
from deviceplugin.diagnose.report import diagnosis_text, document_of, junit_text
from deviceplugin.discovery.loop import look_once
from deviceplugin.discovery.probe import Prober
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.documents.diagnostics import Diagnostics
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.health.operations import device_named
from deviceplugin.health.section import HealthSection
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device
from deviceplugin.runtime.control import ControlError, NoDaemonError, ask_daemon
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.schema import section_of
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.sampler import Sampler
from deviceplugin.vendor import Closable, Vendor, VendorModule

_GIVING_BACK_S = 60.0  # a daemon that restarts is back by then
_AGAIN_S = 1.0


class Asked(Struct, frozen=True, kw_only=True):
    """What the command was given: names of GPUs (none: all), and whether it is to be short."""

    devices: Sequence[str]
    short: bool
    form: str


def run_active(flags: Mapping[str, str | None], asked: Asked) -> int:
    """Test and print; the exit status: 1 where a test fails, or a GPU that was named is refused."""
    configure_logs("critical", "console")  # what fails is a finding of a test
    config, modules = load_here(flags)
    with _locked(config.state_dir) as lock:
        session = Session(config, lock, asked)
        asyncio.run(session.run(modules))
    document = document_of(config.node_name, time.time(), session.results)
    form = asked.form
    text = junit_text(document) if form == "junit" else rendered(document, form, diagnosis_text)
    click.echo(text, nl=False)
    refused_one = bool(asked.devices) and session.refused
    return int(document["verdict"] == Verdict.FAIL or refused_one)


@contextmanager
def _locked(state_dir: Path) -> Iterator[int]:
    try:
        lock = take(state_dir)
    except OSError as error:
        what = "the state directory of the running daemon, which this command can write"
        reason = str(error.strerror or error)
        raise ConfigError("--state-dir", str(state_dir), what, reason=reason) from error
    if lock is None:
        raise DevicePluginError("another test runs on this node: one GPU is tested at a time")
    try:
        yield lock
    finally:
        os.close(lock)


class SocketDesk:
    """The running daemon gives GPUs and takes them back."""

    def __init__(self, state_dir: Path, token: str) -> None:
        self._state_dir, self._token = state_dir, token

    async def begin(self, device: Device) -> None:
        """What may have been taken by a request that got no answer is given back."""
        try:
            await self._ask("test_begin", device)
        except NoDaemonError as error:
            await self._tried("test_end", device)
            raise RefusedError(f"{error}; only a GPU that a daemon keeps is tested") from error
        except ControlError as error:
            raise RefusedError(str(error)) from error

    async def end(self, device: Device, keep: str) -> str:
        """Asked again while the daemon restarts; afterwards it finds out by itself."""
        until_s = time.monotonic() + _GIVING_BACK_S
        while problem := await self._tried("test_end", device, keep=keep):
            if time.monotonic() > until_s:
                return f"{problem}; the daemon gives {device.id} back when it is there"
            await asyncio.sleep(_AGAIN_S)
        return ""

    async def _tried(self, operation: str, device: Device, **more: str) -> str:
        try:
            await self._ask(operation, device, **more)
        except ControlError as error:
            return str(error)
        return ""

    async def _ask(self, operation: str, device: Device, **more: str) -> None:
        request = {"operation": operation, "device": device.id, "token": self._token, **more}
        await asyncio.to_thread(ask_daemon, self._state_dir, request)


class Session:
    """One call of the command."""

    def __init__(self, config: Config, lock: int, asked: Asked) -> None:
        self._config, self._lock, self._asked = config, lock, asked
        section = config.sections.get("diagnostics")
        self._section = section if isinstance(section, Diagnostics) else None
        self._host = Host(config.host_root)
        self._past: Sequence[Past] = ()
        self._cramped = lacking_room(Host())
        self.results: list[Result] = []
        self.refused = False

    async def run(self, modules: Sequence[VendorModule]) -> None:
        """Each GPU in turn; SIGTERM and SIGINT end the test that runs and give its GPU back."""
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        self._past = await asyncio.to_thread(read_past, self._config.state_dir)
        store = InventoryStore(time.time)
        sections = self._config.sections
        vendors = await create_vendors(modules, self._host, sections, store.set_status)
        order = tuple(vendor.name for vendor in vendors)
        try:
            await asyncio.gather(*(look_once(vendor, store, order) for vendor in vendors))
            for device in self._chosen(store):
                await self._test({v.name: v for v in vendors}[device.vendor], device)
        finally:
            for vendor in vendors:
                if isinstance(vendor, Closable):
                    vendor.close()

    def _chosen(self, store: InventoryStore) -> Sequence[Device]:
        """Those that are named, else every GPU that is whole."""
        try:
            named = [device_named(store, name) for name in self._asked.devices]
        except ControlError as error:
            what = "the id, PCI address or index of a GPU of this node"
            given = ", ".join(self._asked.devices)
            raise ConfigError("--device", given, what, reason=str(error)) from error
        devices = store.current.devices.values()
        parents = {device.parent for device in devices}
        every = [d for d in devices if d.parent is None and d.id not in parents]
        return list({device.id: device for device in named or every}.values())

    async def _test(self, vendor: Vendor, device: Device) -> None:
        settings = section_of(self._config.sections, "health", HealthSection)
        sampler = Sampler(vendor, SampleCounts())
        prober = Prober(vendor, settings.call_deadline_s)
        library = find_driver(self._host) if device.vendor == "nvidia" else None
        variables = variables_for(library, device.id) if library else {}
        runner = Runner(lock=self._lock, variables=variables)
        bench = GpuBench(sampler, prober, runner, partial(self._way, library))
        desk = SocketDesk(self._config.state_dir, secrets.token_hex(8))
        wanted = wishes(self._section, short=self._asked.short)
        try:
            tested = await run_tests(desk, bench, device, wanted, self._keep)
        finally:
            sampler.close()
            prober.close()
        self._note(tested)

    def _way(self, library: str | None, device: Device) -> Way:
        address = device.pci_address
        kfd = read_kfd_id(self._host, address) if device.vendor == "amd" and address else None
        named = self._section.tools if self._section is not None else ()
        return Way(
            target=Target(address=address, index=device.index, kfd=kfd),
            library=None if self._cramped else library,
            tools=installed(device.vendor, named, find_program),
            lacking=self._cramped or missing(device.vendor, library),
        )

    async def _keep(self, device: Device, done: Sequence[Done]) -> str:
        """Judge what was found and keep it, before the GPU is given back."""
        found = [(wish, outcome, judged(outcome, wish, self._past)) for wish, outcome in done]
        now = time.time()
        self.results += [result_of(outcome, wish, told) for wish, outcome, told in found]
        self._past = (
            *self._past,
            *(
                Past(at=now, outcome=outcome, verdict=str(told.verdict), text=told.value)
                for _, outcome, told in found
            ),
        )
        try:
            await asyncio.to_thread(write_past, self._config.state_dir, self._past)
        except OSError as error:
            text = f"what was found is not kept: {error.filename}: {error.strerror}"
            self.results.append(unwell(device.id, text, Verdict.WARN))
        return why_kept([(outcome, told) for _, outcome, told in found])

    def _note(self, tested: Tested) -> None:
        device = tested.device.id
        if tested.refused:
            self.refused = True
            self.results.append(refused(device, tested.refused))
        if tested.probed:
            self.results.append(unwell(device, f"after its tests: {tested.probed}"))
        if tested.kept:
            self.results.append(unwell(device, f"it stays cordoned: {tested.kept}"))
        if tested.problem:
            self.results.append(unwell(device, f"when given back: {tested.problem}"))
