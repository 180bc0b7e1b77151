"""What NVML measures of a GPU and of its MIG instances, cheaply: never a call of milliseconds that
another one can stand for.

Left out for its price (on an H200, driver 580): nvmlDeviceGetPcieThroughput, 20 ms a direction, in
place of which GPM has the rates since Hopper.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from deviceplugin.errors import LibraryError
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import Sample
from deviceplugin.vendor.measuring import MEGA, MILLI, NANO, PERCENT, Labels, Values, measured
from deviceplugin.vendors.nvidia.codes import FATAL, NOT_SUPPORTED
from deviceplugin.vendors.nvidia.gpm import Gpm
from deviceplugin.vendors.nvidia.library import Nvml

MEMORY_V2 = 0x02000028  # nvml.h, nvmlMemory_v2

# Metric, its labels, NVML's function and what it is given, and the factor to the base unit.
_NUMBERS: tuple[tuple[str, Labels, str, tuple[int, ...], float], ...] = (
    ("power_watts", (), "nvmlDeviceGetPowerUsage", (), MILLI),
    ("power_limit_watts", (), "nvmlDeviceGetEnforcedPowerLimit", (), MILLI),
    ("energy_joules_total", (), "nvmlDeviceGetTotalEnergyConsumption", (), MILLI),
    ("temperature_celsius", (("sensor", "gpu"),), "nvmlDeviceGetTemperature", (0,), 1),
    ("clock_hertz", (("clock", "graphics"),), "nvmlDeviceGetClockInfo", (0,), MEGA),
    ("clock_hertz", (("clock", "sm"),), "nvmlDeviceGetClockInfo", (1,), MEGA),
    ("clock_hertz", (("clock", "memory"),), "nvmlDeviceGetClockInfo", (2,), MEGA),
    ("clock_hertz", (("clock", "video"),), "nvmlDeviceGetClockInfo", (3,), MEGA),
    ("pcie_replays_total", (), "nvmlDeviceGetPcieReplayCounter", (), 1),
    ("fan_ratio", (("fan", "0"),), "nvmlDeviceGetFanSpeed", (), PERCENT),
)
# Such as do not change while the driver stays loaded.
_LIMITS: tuple[tuple[str, Labels, str, tuple[int, ...], float], ...] = tuple(
    (
        "temperature_limit_celsius",
        (("sensor", sensor), ("limit", limit)),
        "nvmlDeviceGetTemperatureThreshold",
        (number,),
        1,
    )
    for number, sensor, limit in (
        (0, "gpu", "shutdown"),
        (1, "gpu", "slowdown"),
        (2, "memory", "slowdown"),
    )
)
_ENGINES = {
    "encoder": "nvmlDeviceGetEncoderUtilization",
    "decoder": "nvmlDeviceGetDecoderUtilization",
    "jpeg": "nvmlDeviceGetJpgUtilization",
    "ofa": "nvmlDeviceGetOfaUtilization",
}
# nvml.h, nvmlClocksEventReason*, without those that are no trouble: idle and chosen clocks.
REASONS = {
    0x04: "power_cap",
    0x08: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}


def _ecc(kind: str, since: str) -> Labels:
    return (("kind", kind), ("since", since))


def _link(kind: str) -> Labels:
    return (("link", "nvlink"), ("kind", kind))


def _reason(reason: str) -> Labels:
    return (("reason", reason),)


# nvml.h, NVML_FI_*: metric, labels and factor.
_FIELDS: dict[int, tuple[str, Labels, float]] = {
    3: ("ecc_errors_total", _ecc("corrected", "driver"), 1),
    4: ("ecc_errors_total", _ecc("uncorrected", "driver"), 1),
    5: ("ecc_errors_total", _ecc("corrected", "ever"), 1),
    6: ("ecc_errors_total", _ecc("uncorrected", "ever"), 1),
    74: ("throttled_seconds_total", _reason("power"), NANO),
    75: ("throttled_seconds_total", _reason("thermal"), NANO),
    76: ("throttled_seconds_total", _reason("sync_boost"), NANO),
    77: ("throttled_seconds_total", _reason("board_limit"), NANO),
    82: ("temperature_celsius", (("sensor", "memory"),), 1),
    38: ("link_errors_total", _link("crc_flit"), 1),
    45: ("link_errors_total", _link("crc_data"), 1),
    52: ("link_errors_total", _link("replay"), 1),
    59: ("link_errors_total", _link("recovery"), 1),
}


class Meter:
    """Measures through one loaded library; keeps what does not change, and what is not there."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._gpm = Gpm(nvml)
        self._limits: dict[DeviceID, tuple[tuple[str, float, Labels], ...]] = {}
        self._without: dict[DeviceID, set[int]] = {}

    def sample(self, devices: Sequence[Device]) -> Sample:
        """A GPU and its instances; raises LibraryError where the GPU cannot be asked at all."""
        gpu, *parts = devices
        handle = self._nvml.call("nvmlDeviceGetHandleByUUID", gpu.id)
        found = measured(gpu, self._values(handle, gpu))
        lost = []
        for part in parts:
            try:
                own = self._nvml.call("nvmlDeviceGetHandleByUUID", part.id)
                found += measured(part, self._part_values(own, handle, part))
            except LibraryError:
                lost.append(part.id)
        return Sample(measured=tuple(found), lost=tuple(lost))

    def _values(self, handle: Any, gpu: Device) -> Values:
        yield from _memory(self._nvml, handle)
        yield from _numbers(self._nvml, handle, _NUMBERS)
        yield from self._limits_of(handle, gpu)
        yield from _utilization(self._nvml, handle)
        yield from _throttled(self._nvml, handle)
        yield from self._fields(handle, gpu)
        yield from _rows(self._nvml, handle)
        if gpu.ecc is not None:
            yield "ecc_enabled", float(gpu.ecc), ()
        yield from self._gpm.measure(gpu.id, partial(self._gpm.take, handle))

    def _part_values(self, own: Any, gpu: Any, part: Device) -> Values:
        yield from _memory(self._nvml, own)
        instance = part.attributes.get("gpu_instance", "")
        if instance.isdecimal():
            take = partial(self._gpm.take_instance, gpu, int(instance))
            yield from self._gpm.measure(part.id, take, instance=True)

    def _limits_of(self, handle: Any, gpu: Device) -> Values:
        if gpu.id not in self._limits:
            self._limits[gpu.id] = tuple(_numbers(self._nvml, handle, _LIMITS))
        yield from self._limits[gpu.id]

    def _fields(self, handle: Any, gpu: Device) -> Values:
        """In one call; what the GPU does not have is not asked for again, as each costs time."""
        without = self._without.setdefault(gpu.id, set())
        wanted = [number for number in _FIELDS if number not in without]
        answers = asked(self._nvml, "nvmlDeviceGetFieldValues", handle, wanted) if wanted else None
        for number, answer in zip(wanted, answers or (), strict=False):
            if answer.nvmlReturn == NOT_SUPPORTED:
                without.add(number)
            elif answer.nvmlReturn == 0 and (value := field_value(answer)) is not None:
                metric, labels, factor = _FIELDS[number]
                yield metric, value * factor, labels


def asked(nvml: Nvml, function: str, *arguments: Any) -> Any:
    """The answer, None where there is none: a question stands for itself.

    Raises LibraryError where the GPU answers nothing any more.
    """
    try:
        return nvml.ask(function, *arguments)
    except LibraryError as error:
        if error.code in FATAL:
            raise
        return None


# nvml.h, nvmlValueType_t.
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}


def field_value(answer: Any) -> float | None:
    """A field's value by its type, None for a type that is not known."""
    member = _MEMBERS.get(answer.valueType)
    return None if member is None else float(getattr(answer.value, member))


def _numbers(
    nvml: Nvml, handle: Any, table: Sequence[tuple[str, Labels, str, tuple[int, ...], float]]
) -> Values:
    for metric, labels, function, arguments, factor in table:
        value = asked(nvml, function, handle, *arguments)
        if value is not None:
            yield metric, value * factor, labels


def _memory(nvml: Nvml, handle: Any) -> Values:
    """The second form tells what is reserved from what is used; drivers before R510 have the
    first one alone."""
    memory = asked(nvml, "nvmlDeviceGetMemoryInfo", handle, MEMORY_V2)
    reserved = None if memory is None else memory.reserved
    memory = memory or asked(nvml, "nvmlDeviceGetMemoryInfo", handle)
    if memory is not None:
        yield "memory_total_bytes", float(memory.total), ()
        yield "memory_used_bytes", float(memory.used), ()
        yield "memory_free_bytes", float(memory.free), ()
    if reserved is not None:
        yield "memory_reserved_bytes", float(reserved), ()


def _utilization(nvml: Nvml, handle: Any) -> Values:
    rates = asked(nvml, "nvmlDeviceGetUtilizationRates", handle)
    if rates is not None:
        yield "utilization_ratio", rates.gpu * PERCENT, (("engine", "compute"),)
        yield "utilization_ratio", rates.memory * PERCENT, (("engine", "memory"),)
    for engine, function in _ENGINES.items():
        answer = asked(nvml, function, handle)  # with the length of the sampling period
        if answer is not None:
            yield "utilization_ratio", answer[0] * PERCENT, (("engine", engine),)


def _throttled(nvml: Nvml, handle: Any) -> Values:
    """Drivers before R535 know the question by its older name."""
    reasons = asked(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = asked(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    for bit, reason in REASONS.items() if reasons is not None else ():
        yield "throttled", float(bool(reasons & bit)), (("reason", reason),)


def _rows(nvml: Nvml, handle: Any) -> Values:
    rows = asked(nvml, "nvmlDeviceGetRemappedRows", handle)
    if rows is not None:
        corrected, uncorrected, pending, failure = rows
        yield "remapped_rows_total", float(corrected), (("kind", "corrected"),)
        yield "remapped_rows_total", float(uncorrected), (("kind", "uncorrected"),)
        yield "row_remap_pending", float(bool(pending)), ()
        yield "row_remap_failed", float(bool(failure)), ()
    histogram = asked(nvml, "nvmlDeviceGetRowRemapperHistogram", handle)
    if histogram is not None:
        for spare in ("max", "high", "partial", "low", "none"):
            yield "row_banks", float(getattr(histogram, spare)), (("spare", spare),)
