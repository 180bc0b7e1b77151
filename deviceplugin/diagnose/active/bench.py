"""Tests a GPU that was taken: our kernels in a child process, or the vendor's tool, with an eye on
temperature and power meanwhile."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.diagnose.active.process import HangsError, OutputError, Runner
from deviceplugin.diagnose.active.tools import OUR_KERNELS, Target, Tool
from deviceplugin.diagnose.active.values import Outcome, Wish
from deviceplugin.discovery.probe import Prober
from deviceplugin.documents.diagnostics import THERMAL_TEST
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device, DeviceID
from deviceplugin.telemetry.sampler import Sampler
from deviceplugin.vendor import Measured, ProcessTelemetry

LOOK_S = 1.0
TOO_HOT_C = 100.0  # where the product tells no limit of its own
OVER_POWER = 1.1  # of the limit that the driver enforces, in three looks one after the other
_LOOKS = 3
_AGAIN = 3  # a process of a test that has just ended may still be shown


class Way(Struct, frozen=True, kw_only=True):
    """How a device's tests can be run: `library` is the CUDA driver's file, None where there is
    none for it; `tools` are those that are installed, `lacking` says what is not."""

    target: Target
    library: str | None = None
    tools: Sequence[Tool] = ()
    lacking: str = ""

    def by_tool(self, wish: Wish) -> tuple[Tool, Sequence[str]] | None:
        """The first tool that has such a test and can be told which GPU to take, and how."""
        for tool in self.tools:
            test = tool.tests.get(wish.test)
            command = test.command(tool.path, self.target, wish) if test else None
            if command is not None:
                return tool, command
        return None


class Watch(Struct):
    """What was seen meanwhile."""

    hottest: float | None = None
    over: int = 0
    stopped: str = ""

    def look(self, measured: Sequence[Measured], device: DeviceID) -> str:
        """Why the test must end now."""
        own = [one for one in measured if one.device == device]
        heat = [one.value for one in own if one.metric == "temperature_celsius"]
        if heat:
            self.hottest = max(*heat, self.hottest or heat[0])
        power = sum(one.value for one in own if one.metric == "power_watts")
        limits = [one.value for one in own if one.metric == "power_limit_watts"]
        self.over = self.over + 1 if limits and power > OVER_POWER * min(limits) else 0
        if heat and max(heat) >= limit_of(own):
            return f"stopped at {max(heat):g} °C"
        return f"stopped at {power:.0f} W" if self.over >= _LOOKS else ""


def limit_of(measured: Sequence[Measured]) -> float:
    """The lowest temperature at which the product protects itself."""
    told = [one.value for one in measured if one.metric == "temperature_limit_celsius"]
    return min((one for one in told if one > 0), default=TOO_HOT_C)


class GpuBench:
    """One vendor's GPUs. `way` says how each is tested."""

    def __init__(
        self, sampler: Sampler, prober: Prober, runner: Runner, way: Callable[[Device], Way]
    ) -> None:
        self._sampler, self._prober, self._runner, self._way = sampler, prober, runner, way
        self.look_s = LOOK_S

    async def busy(self, device: Device) -> str:
        """By its processes: who holds it by allocation the daemon knows."""
        if not isinstance(self._sampler.vendor, ProcessTelemetry):
            return f"{device.vendor} does not tell which processes use it: not tested"
        found: list[int] = []
        for look in range(_AGAIN):
            processes = await self._sampler.processes([device])
            if processes is None:
                return "its driver does not tell which processes use it: not tested"
            found = sorted(one.pid for one in processes)
            if not found:
                return ""
            if look + 1 < _AGAIN:
                await asyncio.sleep(self.look_s)
        return f"it is used by process {', '.join(map(str, found[:8]))}: not tested"

    async def run(self, device: Device, wish: Wish) -> Outcome:
        """By the first tool that has such a test, else by our kernels where they can run."""
        way = self._way(device)
        found = way.by_tool(wish)
        blank = Outcome(
            test=wish.test,
            device=device.id,
            product=device.product or "",
            tool=found[0].name if found else OUR_KERNELS,
            short=wish.short,
        )
        if found is not None:
            running = _by_tool(self._runner, found, blank, wish)
        elif way.library is None or way.target.address is None:
            return replace(blank, problem=way.lacking)
        else:
            arguments = (wish.test, f"{wish.seconds:g}", way.target.address, way.library)
            running = _by_us(self._runner, arguments, blank, wish)
        return await self._watched(device, blank, running)

    async def _watched(
        self, device: Device, blank: Outcome, running: Awaitable[Outcome]
    ) -> Outcome:
        """The test ends as soon as the GPU is too hot or takes too much power."""
        watch, task = Watch(), asyncio.ensure_future(running)
        try:
            while not task.done():
                answers = await self._sampler.sample([device])
                measured = [m for answer in answers.values() for m in answer.measured]
                if stopped := watch.look(measured, device.id):
                    return _heated(replace(blank, problem=stopped, stopped=True), watch)
                await asyncio.wait([task], timeout=self.look_s)
            return _heated(await task, watch)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, DevicePluginError):
                await task

    async def probe(self, device: Device) -> str:
        """What a probe finds that makes the device Unhealthy."""
        findings = await self._prober.probe([device])
        faults = [fault for found in findings.values() for fault in (*found.faults, *found.events)]
        return "; ".join(fault.reason for fault in faults if fault.kind.withdraws)


def _heated(outcome: Outcome, watch: Watch) -> Outcome:
    """With the hottest that was seen: for the thermal test that is the value."""
    if outcome.test != THERMAL_TEST:
        return replace(outcome, hottest=watch.hottest)
    value = None if outcome.problem else watch.hottest
    unseen = "" if watch.hottest is not None or outcome.problem else "it tells no temperature"
    problem = outcome.problem or unseen
    return replace(outcome, value=value, roof=None, hottest=watch.hottest, problem=problem)


async def _by_us(runner: Runner, arguments: Sequence[str], blank: Outcome, wish: Wish) -> Outcome:
    try:
        found = await runner.child(*arguments, seconds=wish.seconds)
    except OutputError as error:
        return replace(blank, problem=f"our kernels: {error}", broken=isinstance(error, HangsError))
    return outcome_of(found, blank)


def outcome_of(found: Mapping[str, Any], blank: Outcome) -> Outcome:
    """What our child process found; what is not of its form is a problem."""
    if "problem" in found:
        broken = found.get("broken") is True
        return replace(blank, problem=str(found["problem"])[:300], broken=broken)
    value, roof, covered, tensor = (_number(found.get(name)) for name in _NUMBERS)
    wrong = found.get("wrong")
    if value is None or not isinstance(wrong, int):
        return replace(blank, problem="our kernels measured nothing")
    return replace(blank, value=value, roof=roof, covered=covered, tensor=tensor, wrong=wrong)


_NUMBERS = ("value", "roof", "covered", "tensor")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


async def _by_tool(
    runner: Runner, found: tuple[Tool, Sequence[str]], blank: Outcome, wish: Wish
) -> Outcome:
    tool, command = found
    try:
        printed = await runner.tool(command, max(wish.seconds, tool.least_s))
    except OutputError as error:
        return replace(blank, problem=f"{tool.name}: {error}", broken=isinstance(error, HangsError))
    said = tool.tests[wish.test].parse(printed.text)
    if said is None:
        text = f"{tool.name} ended with status {printed.status} and no verdict"
        return replace(blank, problem=text)
    return replace(blank, said=said.passed, value=said.value, wrong=said.wrong)
