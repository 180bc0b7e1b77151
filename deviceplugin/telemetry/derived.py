"""The metrics that the daemon makes of what vendors measure and of what it knows itself; pure."""

from deviceplugin.telemetry.metric import OWNER, Metric

_OF_PROCESSES = {
    "nvidia": "nvmlDeviceGet…RunningProcesses, nvmlDeviceGetProcessUtilization; /proc/*/cgroup",
    "amd": "drm-memory-vram, drm-engine-* of /proc/*/fdinfo; /proc/*/cgroup",
    "intel": "drm-resident-vram*, drm-engine-*, drm-cycles-* of /proc/*/fdinfo; /proc/*/cgroup",
}

DERIVED = (
    Metric(
        key="up",
        help="1 while the device answers, 0 when it is lost or its driver does not answer",
        sources={"all": "whether the last sample got an answer"},
    ),
    Metric(
        key="last_seen_timestamp_seconds",
        unit="seconds",
        help="When the device last answered, in Unix seconds",
        sources={"all": "clock of the daemon"},
    ),
    Metric(
        key="reading_age_seconds",
        unit="seconds",
        help="How old all readings of the device are",
        sources={"all": "clock of the daemon"},
    ),
    Metric(
        key="info",
        help="1; labels with the texts that describe the device",
        labels=("profile", "parent", "numa_node", "driver_version"),
        sources={"all": "discovery"},
    ),
    Metric(
        key="xid_errors_total",
        kind="counter",
        help="XIDs that the driver reported, by number, since the daemon started",
        labels=("code",),
        sources={"nvidia": "nvmlEventSetWait, counted by the health watch"},
    ),
    Metric(
        key="resets_total",
        kind="counter",
        help="Resets of the device, and reloads of its driver, since the daemon started",
        sources={"all": "probes that saw one; events of the kernel"},
    ),
    Metric(
        key="wedged_total",
        kind="counter",
        help="Times that the driver gave the device up, by the recovery that it asks for",
        labels=("code",),
        sources={"all": "the kernel's events (WEDGED=), since the daemon started"},
    ),
    Metric(
        key="processes",
        help="Processes that use the device, by whether a pod of this node owns them",
        labels=("owned",),
        sources={
            "nvidia": "nvmlDeviceGetComputeRunningProcesses, nvmlDeviceGetGraphicsRunningProcesses",
            "amd": "/proc/*/fdinfo",
            "intel": "/proc/*/fdinfo",
        },
    ),
    Metric(
        key="pod_allocated_ratio",
        unit="ratio",
        help="Part of the device that one container was given: 1 is the whole",
        labels=OWNER,
        sources={"all": "its ids of a resource, over all ids of the device in it"},
    ),
    Metric(
        key="pod_memory_used_bytes",
        unit="bytes",
        help="Memory that the processes of one container have of a device, shared or not",
        labels=OWNER,
        sources=_OF_PROCESSES,
    ),
    Metric(
        key="pod_utilization_ratio",
        unit="ratio",
        help="Part of the device's compute time that the processes of one container had",
        labels=OWNER,
        sources=_OF_PROCESSES,
    ),
    Metric(
        key="pod_processes",
        help="Processes of one container that use a device; without a pod: of nobody on this node",
        labels=OWNER,
        sources=_OF_PROCESSES,
    ),
)
