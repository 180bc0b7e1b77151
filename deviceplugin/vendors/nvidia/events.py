"""NVML events: one set for all GPUs; each event becomes a fault of a GPU or of a MIG instance."""

from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any

from msgspec import Struct

from deviceplugin.errors import LibraryError
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendor import HealthReport
from deviceplugin.vendors.nvidia.codes import TIMEOUT
from deviceplugin.vendors.nvidia.library import Nvml, handle_address
from deviceplugin.vendors.nvidia.probes import WITHOUT_CONTAINMENT
from deviceplugin.vendors.nvidia.xids import xid_of

# nvml.h, nvmlEventType*: bits above 0x100 exist in newer drivers only.
DOUBLE_BIT_ECC, XID_CRITICAL, MIG_CONFIG_CHANGE = 0x2, 0x8, 0x100
RETIREMENT, RETIREMENT_FAILURE = 0x400, 0x800
NON_FATAL_POISON, FATAL_POISON = 0x1000, 0x2000
GPU_UNAVAILABLE, RECOVERY_ACTION = 0x4000, 0x8000
WAIT_MS = 1000
BURST_S = 0.2  # between events that name no GPU of ours, which may come for ever
PAUSE_S = 5.0  # after an error of the wait itself, which may come back at once for ever
NO_INSTANCE = 0xFFFFFFFF

XID_SOURCE, EVENT_SOURCE = "nvidia.xid", "nvidia.event"
_RESET = "drain the node and reset the GPU (nvidia-smi --gpu-reset)"
# bit: (code, reason, class, action)
_EVENTS: Mapping[int, tuple[str, str, FaultClass, str]] = {
    DOUBLE_BIT_ECC: ("double_bit_ecc", "double-bit ECC error", FaultClass.RESET, _RESET),
    RETIREMENT: (
        "memory_retired",
        "memory was retired, in force after the next reset",
        FaultClass.WARN,
        "reset the GPU at the next drain",
    ),
    RETIREMENT_FAILURE: (
        "memory_retirement_failed",
        "memory could not be retired",
        FaultClass.RESET,
        f"{_RESET}; it may need replacing",
    ),
    NON_FATAL_POISON: (
        "poison",
        "poisoned data was contained",
        FaultClass.APP,
        "restart the applications on this GPU",
    ),
    FATAL_POISON: ("fatal_poison", "poisoned data was consumed", FaultClass.RESET, _RESET),
    GPU_UNAVAILABLE: (
        "gpu_unavailable",
        "the driver gave the GPU up",
        FaultClass.RESET,
        f"{_RESET}; reboot the node if that fails",
    ),
}
# After these something else is to be looked at: devices, or the driver's recovery action.
_LOOK_AGAIN = frozenset({MIG_CONFIG_CHANGE, GPU_UNAVAILABLE, RECOVERY_ACTION})
_LOOK_AGAIN_XIDS = frozenset({79, 154, 167})
WANTED = XID_CRITICAL | MIG_CONFIG_CHANGE | RECOVERY_ACTION | sum(_EVENTS)


class NvmlEvent(Struct, frozen=True, kw_only=True):
    """An event as NVML reports it; the instance ids are None where it cannot be attributed."""

    gpu: DeviceID
    type: int
    data: int
    gpu_instance: int | None = None
    compute_instance: int | None = None


def faults_of(event: NvmlEvent, devices: Sequence[Device]) -> tuple[Fault, ...]:
    """The faults that an event means, one for each device that it concerns; pure."""
    fault = _fault(event)
    if fault is None:
        return ()
    if event.type == DOUBLE_BIT_ECC and _contains_errors(event.gpu, devices):
        fault = {**fault, "kind": FaultClass.WARN, "action": "see the XID that came with it"}
    return tuple(Fault(device=target, **fault) for target in _targets(event, devices))


def _contains_errors(gpu: DeviceID, devices: Sequence[Device]) -> bool:
    """Whether an XID says what an uncorrected error means: contained (94) or not (48, 95)."""
    known = next((d.architecture for d in devices if d.id == gpu), None)
    return known is not None and known not in WITHOUT_CONTAINMENT


def _fault(event: NvmlEvent) -> Mapping[str, Any] | None:  # Any: the other fields of a Fault
    if event.type == XID_CRITICAL:
        xid = xid_of(event.data)
        text = f"XID {xid.code}: {xid.name}"
        return _fields(XID_SOURCE, (str(xid.code), text, xid.kind, xid.action))
    known = _EVENTS.get(event.type)
    return None if known is None else _fields(EVENT_SOURCE, known)


def _fields(source: str, row: tuple[str, str, FaultClass, str]) -> Mapping[str, Any]:
    code, reason, kind, action = row
    return {"source": source, "code": code, "reason": reason, "kind": kind, "action": action}


def _targets(event: NvmlEvent, devices: Sequence[Device]) -> Sequence[DeviceID]:
    """The MIG instances that the event names, by each id that it gives.

    An instance that we do not know stands for its whole GPU: an event is never lost.
    """
    if event.gpu_instance is None:
        return (event.gpu,)
    parts = [
        device.id
        for device in devices
        if device.parent == event.gpu and _is_named(event, device.attributes)
    ]
    return parts or (event.gpu,)


def _is_named(event: NvmlEvent, attributes: Mapping[str, str]) -> bool:
    if attributes.get("gpu_instance") != str(event.gpu_instance):
        return False
    wanted = event.compute_instance
    return wanted is None or attributes.get("compute_instance") == str(wanted)


def watch_events(nvml: Nvml, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
    """Report each event until `stop`; without event support just return.

    Returns at an error of the wait itself too, after a pause: the session may be another one by
    then, and whoever watches starts a new set.
    """
    event_set = nvml.ask("nvmlEventSetCreate")
    if event_set is None:
        return
    try:
        handles = _register_all(nvml, event_set, devices)
        if handles:
            report.rediscover()  # events from before the registration are not kept
            _watch(nvml, event_set, _Scene(devices, handles, report), stop)
    except LibraryError:
        report.rediscover()
        stop.wait(PAUSE_S)
    finally:
        _free(nvml, event_set)


class _Scene(Struct, frozen=True):
    devices: Sequence[Device]
    handles: Mapping[int, DeviceID]
    report: HealthReport


def _register_all(nvml: Nvml, event_set: Any, devices: Sequence[Device]) -> Mapping[int, DeviceID]:
    """The GPUs that are watched, by the address of their handle, which is how events name them."""
    found: dict[int, DeviceID] = {}
    for device in devices:
        if device.parent is None and (handle := _register(nvml, event_set, device)) is not None:
            found[handle_address(handle)] = device.id
    return found


def _register(nvml: Nvml, event_set: Any, device: Device) -> Any:
    """The handle; None for a GPU that refuses, which is watched by discovery and probes alone."""
    try:
        handle = nvml.call("nvmlDeviceGetHandleByUUID", device.id)
        supported = nvml.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0
        if not supported & WANTED:
            return None
        nvml.call("nvmlDeviceRegisterEvents", handle, supported & WANTED, event_set)
    except LibraryError:
        return None
    return handle


def _watch(nvml: Nvml, event_set: Any, scene: _Scene, stop: Event) -> None:
    while not stop.is_set():
        try:
            data = nvml.call("nvmlEventSetWait_v2", event_set, WAIT_MS)
        except LibraryError as error:
            if error.code != TIMEOUT:
                raise
            continue
        gpu = scene.handles.get(handle_address(data.device))
        if gpu is None:  # a handle of another session: look at everything
            scene.report.rediscover()
            stop.wait(BURST_S)
        else:
            _tell(gpu, data, scene)


def _tell(gpu: DeviceID, data: Any, scene: _Scene) -> None:
    event = NvmlEvent(
        gpu=gpu,
        type=data.eventType,
        data=data.eventData,
        gpu_instance=_instance(data.gpuInstanceId),
        compute_instance=_instance(data.computeInstanceId),
    )
    for fault in faults_of(event, scene.devices):
        scene.report.event(fault)
    if event.type in _LOOK_AGAIN or _asks_to_look(event):
        scene.report.rediscover()


def _asks_to_look(event: NvmlEvent) -> bool:
    return event.type == XID_CRITICAL and event.data in _LOOK_AGAIN_XIDS


def _instance(number: int) -> int | None:
    return None if number == NO_INSTANCE else number


def _free(nvml: Nvml, event_set: Any) -> None:
    try:
        nvml.call("nvmlEventSetFree", event_set)
    except LibraryError:  # it went with its session
        return
