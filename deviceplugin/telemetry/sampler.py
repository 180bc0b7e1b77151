"""Rounds of samples: every vendor on a thread of its own, every GPU within a deadline.

A GPU that hangs costs the GPUs behind it this round, and its vendor the rounds until it answers;
other vendors, and the daemon, go on.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import structlog

from deviceplugin.errors import CallTimeoutError, DevicePluginError, VendorError
from deviceplugin.model import Device, DeviceID
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.state import Answer, checked
from deviceplugin.vendor import (
    MEASURE_DEADLINE_S,
    DeviceProcess,
    ProcessTelemetry,
    Sample,
    Telemetry,
    Vendor,
)

log = structlog.get_logger()


class Sampler:
    """Asks one vendor; `deadline_s` is that of each GPU."""

    def __init__(
        self, vendor: Vendor, counts: SampleCounts, deadline_s: float = MEASURE_DEADLINE_S
    ) -> None:
        self.vendor, self._counts, self._deadline_s = vendor, counts, deadline_s
        self._thread = DriverThread(f"{vendor.name}-telemetry")
        self._failing: dict[str, str] = {}
        self._strange: set[str] = set()

    async def sample(self, devices: Iterable[Device]) -> Mapping[DeviceID, Answer]:
        """What each GPU answered, by the ids of it and of its partitions; nothing of GPUs that
        were not asked because another one hangs."""
        vendor = self.vendor
        if not isinstance(vendor, Telemetry) or self._thread.busy:
            return {}
        groups = grouped(devices)
        calls = [partial(self._measure, vendor, group) for group in groups]
        answers = await self._thread.call_each(calls, self._deadline_s)
        found: dict[DeviceID, Answer] = {}
        for group, answer in zip(groups, answers, strict=False):
            found |= self._taken(group, answer)
        return found

    async def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess] | None:
        """The processes on the devices, None where the vendor does not tell."""
        vendor = self.vendor
        if not isinstance(vendor, ProcessTelemetry) or self._thread.busy or not devices:
            return None
        call = partial(vendor.processes, devices)
        try:
            answer = await self._thread.call(call, self._deadline_s)
        except VendorError as error:
            self._tell("processes", str(error))
            return None
        self._tell("processes", "")
        known = {device.id for device in devices}
        return [p for p in answer if isinstance(p, DeviceProcess) and p.device in known]

    def close(self) -> None:
        """Nothing is asked any more."""
        self._thread.close()

    def _measure(self, vendor: Telemetry, group: Sequence[Device]) -> Sample:
        """On the vendor's thread."""
        started = time.perf_counter()
        try:
            answer = vendor.sample(group)
            if not isinstance(answer, Sample):
                raise VendorError(f"sample() gave a {type(answer).__name__}, which is no Sample")
            return answer
        finally:
            self._counts.took(self.vendor.name, time.perf_counter() - started)

    def _taken(
        self, group: Sequence[Device], answer: Sample | DevicePluginError
    ) -> Mapping[DeviceID, Answer]:
        gpu = group[0].id
        if isinstance(answer, Sample):
            self._tell(gpu, "")
            found, strange = checked(group, answer)
            self._tell_strange(strange)
            return found
        reason = "timeout" if isinstance(answer, CallTimeoutError) else "error"
        self._counts.failed(self.vendor.name, reason)
        self._tell(gpu, str(answer))
        hangs = reason == "timeout"
        return {device.id: Answer(up=False, hangs=hangs) for device in group}

    def _tell(self, about: str, error: str) -> None:
        """Once per change: a round comes every few seconds."""
        before = self._failing.pop(about, "")
        if error:
            self._failing[about] = error
        if error and not before:
            log.warning("sample_failed", vendor=self.vendor.name, device=about, error=error)
        elif before and not error:
            log.info("sample_recovered", vendor=self.vendor.name, device=about)

    def _tell_strange(self, strange: Iterable[str]) -> None:
        for metric in sorted({*strange} - self._strange)[:10]:
            log.warning("metric_unknown", vendor=self.vendor.name, metric=metric[:100])
            self._strange.add(metric)


def grouped(devices: Iterable[Device]) -> list[tuple[Device, ...]]:
    """Each whole device with its partitions behind it; a partition whose whole is not there is
    asked for by itself."""
    known = {device.id: device for device in devices}
    groups: dict[DeviceID, list[Device]] = {}
    for device in sorted(known.values(), key=lambda d: (d.parent is not None, d.id)):
        parent = device.parent if device.parent in groups else None
        groups.setdefault(parent or device.id, []).append(device)
    return [tuple(group) for group in groups.values()]


async def sampled(
    samplers: Sequence[Sampler], devices: Mapping[DeviceID, Device]
) -> Mapping[DeviceID, Answer]:
    """One round of all vendors at once."""
    by_vendor: dict[str, list[Device]] = {}
    for device in devices.values():
        by_vendor.setdefault(device.vendor, []).append(device)
    answers = await asyncio.gather(*(s.sample(by_vendor.get(s.vendor.name, ())) for s in samplers))
    return {device: answer for found in answers for device, answer in found.items()}


async def listed(
    samplers: Sequence[Sampler], devices: Mapping[DeviceID, Device]
) -> tuple[DeviceProcess, ...]:
    """The processes that all vendors know of."""
    own = {
        s: [device for device in devices.values() if device.vendor == s.vendor.name]
        for s in samplers
    }
    answers = await asyncio.gather(*(s.processes(own[s]) for s in samplers))
    return tuple(process for found in answers for process in found or ())
