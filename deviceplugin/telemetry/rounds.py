"""The rounds: samples, processes, holders, and what is made of them, again and again."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.metrics.section import shows_pods
from deviceplugin.model import DeviceID
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Series
from deviceplugin.telemetry.around import Around, OfHost
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.metrics import Known, Shown, TelemetryCollector
from deviceplugin.telemetry.model import ProcessUse, TelemetryView
from deviceplugin.telemetry.sampler import Sampler, listed, sampled
from deviceplugin.telemetry.section import TelemetrySection
from deviceplugin.telemetry.state import Holders, holders_of, next_view, shares_of, with_users
from deviceplugin.vendor import DeviceProcess

if TYPE_CHECKING:
    from deviceplugin.telemetry.history import History
    from deviceplugin.telemetry.keeping import Keeping
    from deviceplugin.telemetry.who import Finder

_NOTHING = TelemetryView(interval_s=0.0)


class Rounds:
    """Measures by one section until it is closed; `latest` gets the view of each round."""

    def __init__(
        self,
        config: OfHost,
        section: TelemetrySection,
        around: Around,
        latest: Latest[TelemetryView | None],
        before: "Rounds | None" = None,
    ) -> None:
        self._config, self._section = config, section
        self._around, self._latest = around, latest
        self._samplers: tuple[Sampler, ...] = ()
        self.counts: SampleCounts = before.counts if before else SampleCounts()
        self._finder: Finder | None = None
        self._keeping: Keeping | None = None
        self._view = replace(latest.value or _NOTHING, interval_s=section.interval_s)

    async def run(self, changed: asyncio.Event) -> None:
        """Rounds until `changed` is set; the next begins an interval after the one before."""
        loop = asyncio.get_running_loop()
        while not changed.is_set():
            began = loop.time()
            await self.round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + self._section.interval_s):
                    await changed.wait()

    async def round(self) -> None:
        """One round."""
        devices = self._around.inventory().devices
        self._follow_vendors()
        answers = await sampled(self._samplers, devices)
        view = next_view(self._view, devices, answers, self._around.now())
        held = tuple(self._around.held())
        holders, shares = holders_of(held), shares_of(held, self._around.listed())
        processes = await self._processes(holders) if self._section.processes else None
        self._view = with_users(view, holders, shares, processes)
        self._latest.set(self._view)
        await self._keep()

    def series(self, known: Known) -> Iterator[Series]:
        """All series of the newest view; from any thread."""
        pods = shows_pods(self._config.sections)
        shown = Shown(pods=pods, compatibility=self._section.compatibility)
        collector = TelemetryCollector(
            lambda: self._latest.value, lambda: known, lambda: shown, self._around.now
        )
        yield from collector.collect()
        yield from self.counts.collect()

    async def close(self) -> None:
        """Ask nothing any more."""
        for sampler in self._samplers:
            sampler.close()
        if self._keeping is not None:
            await self._keeping.close(self._around.now())

    @property
    def history(self) -> "History | None":
        """What is kept of the past, None while none is."""
        return self._keeping.history if self._keeping else None

    async def _keep(self) -> None:
        if not self._section.history:
            return
        if self._keeping is None:
            from deviceplugin.telemetry.keeping import Keeping  # noqa: PLC0415  # loads SQLite

            self._keeping = Keeping(self._config.state_dir)
        around = self._around
        await self._keeping.add(self._view, around.inventory(), around.held(), around.now())

    def _follow_vendors(self) -> None:
        """A reload makes vendors anew."""
        kept = {id(sampler.vendor): sampler for sampler in self._samplers}
        vendors = self._around.vendors()
        if [*map(id, vendors)] == [*kept]:
            return
        self._samplers = tuple(
            kept.pop(id(vendor)) if id(vendor) in kept else Sampler(vendor, self.counts)
            for vendor in vendors
        )
        for old in kept.values():
            old.close()

    async def _processes(self, holders: Holders) -> tuple[ProcessUse, ...]:
        found = await listed(self._samplers, self._around.inventory().devices)
        tested = frozenset(self._around.tested())
        return await asyncio.to_thread(self._found, found, holders, tested)

    def _found(
        self,
        found: Sequence[DeviceProcess],
        holders: Holders,
        tested: Collection[DeviceID],
    ) -> tuple[ProcessUse, ...]:
        """On a thread: /proc is read."""
        if self._finder is None:
            from deviceplugin.telemetry.who import Finder, ProcessNames  # noqa: PLC0415

            host = Host(self._config.host_root)
            self._finder = Finder(host, ProcessNames(host))
        return self._finder.uses(found, holders, tested)
