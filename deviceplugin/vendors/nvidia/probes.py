"""What NVML says of a GPU's health when it is asked: verdict, memory, clocks.

Each question stands for itself: one that is not answered now (remapped rows are not while MIG
instances exist) keeps its last answer, and never hides the others. `read_gpu_readings` asks,
perhaps in another process; `Probes` remembers and judges, and knows no library.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from deviceplugin.errors import LibraryError
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendor import Finding
from deviceplugin.vendors.nvidia.codes import GPU_IS_LOST, UNINITIALIZED
from deviceplugin.vendors.nvidia.library import Nvml

RECOVERY_ACTION_FIELD = 230  # nvml.h, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
UNCORRECTED, VOLATILE = 1, 0  # nvml.h, nvmlMemoryErrorType_t and nvmlEccCounterType_t
RETIRED_CAUSES = (0, 1)  # nvml.h, nvmlPageRetirementCause_t: single-bit, double-bit
MAX_RETIRED = 63  # DCGM fails at it, the driver's table ends at 64
STANDING_S = 60.0  # a slowdown that stands counts as one event a minute

# nvml.h, nvmlClocksEventReason*: those that mean trouble.
SLOWDOWNS: Mapping[int, tuple[str, str, str]] = {
    0x08: ("hw_slowdown", "hardware slowdown halves the clocks", "check cooling and power"),
    0x40: ("hw_thermal", "hardware thermal slowdown", "check the node's cooling"),
    0x80: ("power_brake", "hardware power brake", "check power supplies and the rack's power"),
}
# Value of field 230: (code, class, action); 6 and 7 are known from the newest headers only.
RECOVERY: Mapping[int, tuple[str, FaultClass, str]] = {
    1: ("gpu_reset", FaultClass.RESET, "drain the node and reset the GPU"),
    2: ("node_reboot", FaultClass.REBOOT, "drain and reboot the node"),
    3: ("drain_p2p", FaultClass.RESET, "end the work on this GPU and its NVLink peers"),
    4: ("drain_and_reset", FaultClass.RESET, "drain this GPU and its peers, then reset it"),
    5: ("recover_imex", FaultClass.RESET, "recover the IMEX domain"),
    6: ("bus_reset", FaultClass.RESET, "drain the node and reset the GPU's PCIe bus"),
    7: ("system_reboot", FaultClass.REBOOT, "drain and reboot the system"),
}
_RESETS = frozenset({1, 4, 6})
# Before row remapping and error containment every uncorrected error asks for a reset.
WITHOUT_CONTAINMENT = frozenset({"kepler", "maxwell", "pascal", "volta", "turing"})

Faults = tuple[Fault, ...]
Check = Callable[[Nvml, Any, Device], Faults | None]


class GpuReadings(Struct, frozen=True, kw_only=True):
    """What one GPU answered now; a check that got no answer is not among `checks`."""

    energy: int | None
    action: int | None
    reasons: int | None
    checks: Mapping[str, Faults]


def read_gpu_readings(nvml: Nvml, device: Device) -> GpuReadings:
    """Ask one GPU everything; raises LibraryError where it cannot be asked at all."""
    handle = nvml.call("nvmlDeviceGetHandleByUUID", device.id)
    asked = {check.__name__: _checked(check, nvml, handle, device) for check in _CHECKS}
    return GpuReadings(
        energy=_asked(nvml, "nvmlDeviceGetTotalEnergyConsumption", handle),
        action=nvml.field(handle, RECOVERY_ACTION_FIELD),
        reasons=_read_reasons(nvml, handle),
        checks={name: faults for name, faults in asked.items() if faults is not None},
    )


def _checked(check: Check, nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    try:
        return check(nvml, handle, device)
    except LibraryError as error:
        if error.code in (GPU_IS_LOST, UNINITIALIZED):
            raise
        return None


class Probes:
    """What the questions were answered last; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[tuple[DeviceID, str], Faults] = {}
        self._actions: dict[DeviceID, int] = {}
        self._energy: dict[DeviceID, int] = {}
        self._slowed: dict[tuple[DeviceID, int], float] = {}

    def judge(self, device: Device, now: GpuReadings) -> Finding:
        """All that is wrong with one GPU, by its answers and those that it gave before."""
        reset = self._was_reset(device.id, now.energy, now.action)
        if reset:
            self._forget(device.id)
        self._answers |= {(device.id, name): faults for name, faults in now.checks.items()}
        standing = [self._answers.get((device.id, check.__name__), ()) for check in _CHECKS]
        return Finding(
            faults=(*_verdict(device, now.action), *(f for faults in standing for f in faults)),
            events=self._slowdowns(device, now.reasons),
            reset_counter=now.energy,
            reset=reset,
        )

    def _was_reset(self, device: DeviceID, energy: int | None, action: int | None) -> bool:
        """Energy is counted since the driver was loaded; a reset that was asked for is done."""
        reloaded = energy is not None and energy < self._energy.get(device, 0)
        done = action == 0 and self._actions.get(device) in _RESETS
        if energy is not None:
            self._energy[device] = energy
        if action is not None:
            self._actions[device] = action
        return done or reloaded

    def _forget(self, device: DeviceID) -> None:
        self._answers = {key: a for key, a in self._answers.items() if key[0] != device}

    def _slowdowns(self, device: Device, reasons: int | None) -> Faults:
        """An event when a bit comes, and one a minute while it stays.

        A power brake on several GPUs at once is the rack's doing: it is reported of each, and
        none is marked Unhealthy.
        """
        if reasons is None:
            return ()
        events = []
        for bit, row in SLOWDOWNS.items():
            if self._is_news(device.id, bit, now_set=bool(reasons & bit)):
                events.append(_slowdown(device, row, shared=self._is_shared(device.id, bit)))
        return tuple(events)

    def _is_news(self, device: DeviceID, bit: int, *, now_set: bool) -> bool:
        if not now_set:
            self._slowed.pop((device, bit), None)
            return False
        now = self._clock()
        told = self._slowed.get((device, bit))
        if told is not None and now - told < STANDING_S:
            return False
        self._slowed[device, bit] = now
        return True

    def _is_shared(self, device: DeviceID, bit: int) -> bool:
        return bit == 0x80 and any(b == bit and d != device for d, b in self._slowed)


def _asked(nvml: Nvml, function: str, *arguments: Any) -> Any:  # what NVML gives
    """The answer, None for any failure but a GPU that cannot be asked anything."""
    try:
        return nvml.ask(function, *arguments)
    except LibraryError as error:
        if error.code in (GPU_IS_LOST, UNINITIALIZED):
            raise
        return None


def _read_reasons(nvml: Nvml, handle: Any) -> int | None:
    """Drivers before R535 know the question by its older name."""
    reasons = _asked(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = _asked(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return reasons if reasons is None else int(reasons)


def _verdict(device: Device, action: int | None) -> Faults:
    """What the driver says the GPU needs; an unknown action is taken seriously."""
    if not action:
        return ()
    unknown = (f"action_{action}", FaultClass.RESET, "see the driver's release notes")
    code, kind, advice = RECOVERY.get(action, unknown)
    reason = f"the driver asks for recovery action {action} ({code.replace('_', ' ')})"
    return (_fault(device, "nvidia.recovery", (code, reason, kind, advice)),)


def remapped_rows(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """Row remapping that waits for a reset, or that failed (Ampere and later)."""
    rows = nvml.ask("nvmlDeviceGetRemappedRows", handle)
    if rows is None:
        return None
    _, _, pending, failure = rows
    faults = []
    if failure:
        text = ("remap_failure", "a row of memory could not be remapped")
        faults.append(_fault(device, "nvidia.memory", (*text, FaultClass.HARDWARE, "replace it")))
    if pending:
        text = ("remap_pending", "a row of memory is remapped at the next reset")
        advice = "reset the GPU at the next drain"
        faults.append(_fault(device, "nvidia.memory", (*text, FaultClass.WARN, advice)))
    return tuple(faults)


def spare_rows(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """Memory banks that have no spare row left: the next uncorrectable error there is a failure."""
    histogram = nvml.ask("nvmlDeviceGetRowRemapperHistogram", handle)
    if histogram is None:
        return None
    if not histogram.none:
        return ()
    reason = f"{histogram.none} memory banks have no spare rows left"
    row = ("no_spare_rows", reason, FaultClass.WARN, "plan a replacement")
    return (_fault(device, "nvidia.memory", row),)


def retired_pages(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """Pages retired for good, and such as wait for a reset (before Ampere)."""
    if device.architecture not in WITHOUT_CONTAINMENT:
        return ()
    pages = [nvml.ask("nvmlDeviceGetRetiredPages", handle, cause) for cause in RETIRED_CAUSES]
    pending = nvml.ask("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    count = sum(len(found) for found in pages if found is not None)
    faults = []
    if count >= MAX_RETIRED:
        text = ("retired_pages", f"{count} pages of memory are retired")
        faults.append(_fault(device, "nvidia.memory", (*text, FaultClass.HARDWARE, "replace it")))
    if pending:
        text = ("retirement_pending", "pages of memory are retired at the next reset")
        advice = "reset the GPU at the next drain"
        faults.append(_fault(device, "nvidia.memory", (*text, FaultClass.WARN, advice)))
    return tuple(faults)


def sram_errors(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """SRAM errors over the threshold from which NVIDIA takes a GPU back."""
    status = nvml.sram_status(handle)
    if status is None:
        return None
    if not status.bThresholdExceeded:
        return ()
    row = ("sram_threshold", "SRAM errors are over NVIDIA's threshold", FaultClass.HARDWARE)
    return (_fault(device, "nvidia.memory", (*row, "run the field diagnostic; replace it")),)


def uncorrected_errors(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """Uncorrected memory errors since the driver was loaded.

    GPUs that contain errors (Ampere and later) report by XID what one means: here it
    is a warning only.
    """
    count = nvml.ask("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE)
    if count is None:
        return None
    if not count:
        return ()
    severe = device.architecture in WITHOUT_CONTAINMENT
    kind = FaultClass.RESET if severe else FaultClass.WARN
    reason = f"{count} uncorrected memory errors since the driver was loaded"
    return (_fault(device, "nvidia.ecc", ("uncorrected", reason, kind, "reset the GPU")),)


def licence(nvml: Nvml, handle: Any, device: Device) -> Faults | None:
    """A guest's vGPU without a licence, which the driver slows down and limits after a while."""
    if "vgpu_profile" not in device.attributes:
        return ()
    features = nvml.ask("nvmlDeviceGetGridLicensableFeatures", handle)
    if features is None or not features.isGridLicenseSupported:
        return None
    known = features.gridLicensableFeatures[: features.licensableFeaturesCount]
    if not known or any(feature.featureState for feature in known):
        return ()
    reason = "the vGPU has no licence: after a while the driver limits it, or refuses CUDA"
    advice = "check nvidia-gridd in the guest, its token and the licence server"
    return (_fault(device, "nvidia.licence", ("unlicensed", reason, FaultClass.WARN, advice)),)


_CHECKS: tuple[Check, ...] = (
    licence,
    remapped_rows,
    spare_rows,
    retired_pages,
    sram_errors,
    uncorrected_errors,
)


def _slowdown(device: Device, row: tuple[str, str, str], *, shared: bool) -> Fault:
    code, reason, action = row
    if shared:
        code, reason = f"{code}_shared", f"{reason} on several GPUs at once"
    return _fault(device, "nvidia.clocks", (code, reason, FaultClass.WARN, action))


def _fault(device: Device, source: str, row: tuple[str, str, FaultClass, str]) -> Fault:
    code, reason, kind, action = row
    return Fault(
        device=device.id, source=source, code=code, reason=reason, kind=kind, action=action
    )
