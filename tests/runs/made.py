"""Holds and measurements that are made up."""

from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.model import (
    DeviceView,
    Labels,
    Owner,
    ProcessUse,
    Reading,
    TelemetryView,
)

NOW = 1_700_000_000.0
GPU = ResourceName("nvidia.com/gpu")
COMPUTE: Labels = (("engine", "compute"),)


def owner(pod: str) -> Owner:
    return Owner(namespace="ml", pod=pod, container="main")


def held(*pods: str, device: str = "GPU-0") -> list[Held]:
    """Each pod holds the device."""
    return [(("ml", pod, "main"), GPU, DeviceID(device)) for pod in pods]


def view(
    *of: tuple[str, float | None, float | None, tuple[str, ...]],
    up: bool = True,
    processes: tuple[ProcessUse, ...] | None = None,
) -> TelemetryView:
    """Devices: id, MiB in use, utilisation, and the pods that hold it."""
    found = {}
    for name, mib, ratio, pods in of:
        device = DeviceID(name)
        readings = []
        if mib is not None:
            value = mib * (1 << 20)
            readings += [Reading(metric="memory_used_bytes", device=device, value=value, at=NOW)]
        if ratio is not None:
            one = Reading(
                metric="utilization_ratio", device=device, value=ratio, at=NOW, labels=COMPUTE
            )
            readings += [one]
        found[device] = DeviceView(
            device=Device(id=device, vendor="nvidia", product="P"),
            up=up,
            seen_at=NOW,
            readings=tuple(readings),
            holders=tuple((owner(pod), GPU) for pod in pods),
        )
    return TelemetryView(interval_s=10, devices=found, processes=processes)
