"""NVML events: what the driver tells between two discoveries."""

from collections.abc import Sequence
from threading import Event
from typing import Any

from deviceplugin.errors import LibraryError
from deviceplugin.model import Device
from deviceplugin.vendor import HealthReport
from deviceplugin.vendors.nvidia.library import TIMEOUT, Nvml

# nvml.h, nvmlEventType*: bits above the first ones exist in newer drivers only.
XID_CRITICAL, MIG_CONFIG_CHANGE = 0x8, 0x100
GPU_UNAVAILABLE, GPU_RECOVERY_ACTION = 0x4000, 0x8000
WANTED = XID_CRITICAL | MIG_CONFIG_CHANGE | GPU_UNAVAILABLE | GPU_RECOVERY_ACTION
WAIT_MS = 1000
PAUSE_S = 5.0  # after an error of the wait itself, which may come back at once for ever


def watch_events(nvml: Nvml, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
    """Ask for a discovery at each event, until `stop`; without event support just return."""
    event_set = nvml.ask("nvmlEventSetCreate")
    if event_set is None:
        return
    try:
        registered = [_register(nvml, event_set, d) for d in devices if d.parent is None]
        if any(registered):
            report.rediscover()  # events from before the registration are not kept
            _wait(nvml, event_set, report, stop)
    finally:
        nvml.call("nvmlEventSetFree", event_set)


def _register(nvml: Nvml, event_set: Any, device: Device) -> bool:
    """Register for what the GPU supports; a GPU that refuses is watched by discovery alone."""
    try:
        handle = nvml.call("nvmlDeviceGetHandleByUUID", device.id)
        supported = nvml.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0
        if not supported & WANTED:
            return False
        nvml.call("nvmlDeviceRegisterEvents", handle, supported & WANTED, event_set)
    except LibraryError:
        return False
    return True


def _wait(nvml: Nvml, event_set: Any, report: HealthReport, stop: Event) -> None:
    while not stop.is_set():
        try:
            nvml.call("nvmlEventSetWait_v2", event_set, WAIT_MS)
        except LibraryError as error:
            if error.code != TIMEOUT:
                report.rediscover()
                stop.wait(PAUSE_S)
            continue
        report.rediscover()
