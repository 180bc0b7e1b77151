"""Asks a vendor's GPUs for their health, each within a deadline; a probe that hangs is a fault."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from deviceplugin.discovery.values import fault_problem
from deviceplugin.errors import CallTimeoutError, DevicePluginError, VendorError
from deviceplugin.faults import HEALTH_UNREADABLE, NO_ANSWER
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor import Finding, HealthProbe, Vendor


class Prober:
    """The probes of one vendor, on a thread of their own; `problem` says what hangs, if any."""

    def __init__(self, vendor: Vendor, deadline_s: float) -> None:
        self._vendor, self._deadline_s = vendor, deadline_s
        self._thread = DriverThread(f"{vendor.name}-probe")
        self._last: dict[DeviceID, Finding] = {}
        self.problem: str | None = None

    @property
    def can_glance(self) -> bool:
        """Whether there are probes, of which none hangs."""
        return isinstance(self._vendor, HealthProbe) and not self._thread.busy

    async def glance(
        self, devices: Sequence[Device], unchanged: Callable[[], bool]
    ) -> Mapping[DeviceID, Finding] | None:
        """The findings, where `unchanged` says so first, in the same call of the thread; else None,
        and none was probed. Where that hangs, the next `probe` finds every GPU without answer."""
        holds: list[bool] = []

        def first() -> Finding:
            holds.append(unchanged())
            return Finding()

        findings = await self._probe(devices, first, lambda: holds == [True])
        return findings if holds == [True] else None

    async def probe(self, devices: Sequence[Device]) -> Mapping[DeviceID, Finding]:
        """What was found of each whole GPU; of one that cannot be asked, what was found before."""
        return await self._probe(devices)

    async def _probe(
        self,
        devices: Sequence[Device],
        first: Callable[[], Finding] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Mapping[DeviceID, Finding]:
        vendor = self._vendor
        if not isinstance(vendor, HealthProbe):
            return {}
        whole = [device for device in devices if device.parent is None]
        findings = {d.id: self._last.get(d.id, Finding()) for d in whole}
        if not self._thread.busy:
            self.problem = None
            calls: list[Callable[[], Finding]] = [first] if first else []
            calls += [partial(_if, wanted, vendor.probe_health, device) for device in whole]
            answers = await self._thread.call_each(calls, self._deadline_s)
            if first and isinstance(answers[0], CallTimeoutError):
                return self._all_hung(whole, answers[0])
            own = answers[len(calls) - len(whole) :]
            for device, answer in zip(whole, own, strict=False):  # none behind one that hangs
                if wanted():
                    findings[device.id] = self._finding(device, answer)
        self._last = {i: Finding(faults=found.faults) for i, found in findings.items()}
        return findings

    def _all_hung(
        self, whole: Sequence[Device], error: CallTimeoutError
    ) -> Mapping[DeviceID, Finding]:
        """What comes before all probes hangs: no GPU is known to be well until it returns."""
        self.problem = f"check for changes: {error}"
        for device in whole:
            before = self._last.get(device.id, Finding())
            self._last[device.id] = self._with(before, self._hung(device, error))
        return self._last

    def close(self) -> None:
        """Nothing is asked any more."""
        self._thread.close()

    def _finding(self, device: Device, answer: Finding | DevicePluginError) -> Finding:
        if isinstance(answer, Finding):
            problem = _problem(answer)
            if problem is None:
                return answer
            answer = VendorError(problem)
        before = self._last.get(device.id, Finding())
        if isinstance(answer, CallTimeoutError):
            self.problem = f"health of {device.id}: {answer}"
            return self._with(before, self._hung(device, answer))
        return self._with(before, self._failed(device, answer))

    def _with(self, before: Finding, fault: Fault) -> Finding:
        others = [f for f in before.faults if f.source != fault.source]
        return replace(before, faults=(*others, fault), events=())

    def _hung(self, device: Device, error: DevicePluginError) -> Fault:
        return NO_ANSWER.fault(device.id, f"{device.vendor}.probe", str(error))

    def _failed(self, device: Device, error: DevicePluginError) -> Fault:
        return HEALTH_UNREADABLE.fault(device.id, f"{device.vendor}.probe", str(error))


def _if(wanted: Callable[[], bool], probe: Callable[[Device], Finding], device: Device) -> Finding:
    return probe(device) if wanted() else Finding()


def _problem(finding: Finding) -> str | None:
    """Why a finding cannot be taken over, None where it can."""
    reported = (*finding.faults, *finding.events)
    return next((problem for fault in reported if (problem := fault_problem(fault))), None)
