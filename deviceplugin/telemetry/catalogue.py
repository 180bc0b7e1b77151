"""One table of all metrics of devices, for /metrics, docs/metrics.md and every query; pure.

A metric is known by its key. Its name on /metrics is the key behind PREFIX; units are base units
and stand at the end of the key. `sources` says of each vendor which call or file a value is from.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from deviceplugin.telemetry.compatible import ALIASES
from deviceplugin.telemetry.derived import DERIVED
from deviceplugin.telemetry.metric import Metric

MEASURED = (
    Metric(
        key="utilization_ratio",
        unit="ratio",
        help="Part of the time, or of the capacity, in which an engine was busy",
        labels=("engine",),
        sources={
            "nvidia": "compute, memory: nvmlDeviceGetUtilizationRates;"
            " encoder, decoder, jpeg, ofa: nvmlDeviceGet…Utilization;"
            " compute of MIG, sm, tensor: nvmlGpmMetricsGet",
            "amd": "compute: gpu_busy_percent or gpu_metrics average_gfx_activity;"
            " memory: mem_busy_percent or average_umc_activity; decoder: average_mm_activity;"
            " compute of a partition: gpu_metrics xcp_stats gfx_busy_inst, since format 1.6",
            "intel": "awake: gtidle/idle_residency_ms of xe, rc6_residency_ms of i915;"
            " compute, copy, video, video_enhance: the busiest engine of a kind by perf events of"
            " the PMU, *-busy of i915 or engine-active-ticks over engine-total-ticks of xe;"
            " compute without them: drm-engine-* or drm-cycles-* of fdinfo, with processes",
        },
    ),
    Metric(
        key="memory_used_bytes",
        unit="bytes",
        help="Memory in use",
        sources={
            "nvidia": "nvmlDeviceGetMemoryInfo_v2, used",
            "amd": "mem_info_vram_used; KFD mem_banks/0/used_memory of a partition",
            "intel": "sum of drm-resident-vram* of fdinfo; an absent series without processes",
        },
    ),
    Metric(
        key="memory_free_bytes",
        unit="bytes",
        help="Memory that is free",
        sources={
            "nvidia": "nvmlDeviceGetMemoryInfo_v2, free",
            "amd": "mem_info_vram_total less mem_info_vram_used",
        },
    ),
    Metric(
        key="memory_reserved_bytes",
        unit="bytes",
        help="Memory that driver and firmware keep",
        sources={"nvidia": "nvmlDeviceGetMemoryInfo_v2, reserved"},
    ),
    Metric(
        key="memory_total_bytes",
        unit="bytes",
        help="Memory of the device",
        sources={
            "nvidia": "nvmlDeviceGetMemoryInfo_v2, total",
            "amd": "mem_info_vram_total",
            "intel": "what discovery read",
        },
    ),
    Metric(
        key="temperature_celsius",
        unit="celsius",
        help="Temperature at a sensor: gpu, hotspot, memory",
        labels=("sensor",),
        sources={
            "nvidia": "gpu: nvmlDeviceGetTemperatureV; memory: field 82",
            "amd": "hwmon temp*_input by temp*_label: edge is gpu, junction hotspot, mem memory",
            "intel": "xe hwmon temp2_input is gpu, temp3_input memory; else by temp*_label",
        },
    ),
    Metric(
        key="temperature_limit_celsius",
        unit="celsius",
        help="Temperature from which the device slows down or ends",
        labels=("sensor", "limit"),
        sources={
            "nvidia": "nvmlDeviceGetTemperatureThreshold: slowdown, shutdown, memory's maximum",
            "amd": "hwmon temp*_crit is slowdown, temp*_emergency shutdown",
            "intel": "hwmon temp*_crit is slowdown, temp*_emergency shutdown",
        },
    ),
    Metric(
        key="power_watts",
        unit="watts",
        help="Power that the device draws",
        sources={
            "nvidia": "nvmlDeviceGetPowerUsage",
            "amd": "hwmon power1_input or power1_average",
            "intel": "difference of energy over the time between two samples",
        },
    ),
    Metric(
        key="power_limit_watts",
        unit="watts",
        help="Power that the device is held to",
        sources={
            "nvidia": "nvmlDeviceGetEnforcedPowerLimit",
            "amd": "hwmon power1_cap",
            "intel": "hwmon power1_max or power1_cap",
        },
    ),
    Metric(
        key="energy_joules_total",
        kind="counter",
        unit="joules",
        help="Energy used since the driver was loaded",
        sources={
            "nvidia": "nvmlDeviceGetTotalEnergyConsumption",
            "amd": "gpu_metrics energy_accumulator",
            "intel": "hwmon energy1_input, else energy2_input",
        },
    ),
    Metric(
        key="clock_hertz",
        unit="hertz",
        help="Clock of a part of the device",
        labels=("clock",),
        sources={
            "nvidia": "nvmlDeviceGetClockInfo: graphics, sm, memory, video",
            "amd": "hwmon freq1_input is sm, freq2_input memory",
            "intel": "graphics: rps_act_freq_mhz of i915, freq0/act_freq of xe",
        },
    ),
    Metric(
        key="throttled",
        help="1 while a reason holds the clocks down, 0 while it does not",
        labels=("reason",),
        sources={
            "nvidia": "nvmlDeviceGetCurrentClocksEventReasons",
            "amd": "gpu_metrics 1.3 indep_throttle_status",
            "intel": "throttle/reason_* of xe, throttle_reason_* of i915",
        },
    ),
    Metric(
        key="throttled_seconds_total",
        kind="counter",
        unit="seconds",
        help="Time for which a reason held the clocks down",
        labels=("reason",),
        sources={"nvidia": "fields 74 to 77 (nanoseconds)"},
    ),
    Metric(
        key="throttled_ratio",
        unit="ratio",
        help="Part of the time between two samples in which a reason held the clocks down",
        labels=("reason",),
        sources={
            "amd": "gpu_metrics since format 1.6: *_residency_acc over accumulation_counter",
        },
    ),
    Metric(
        key="ecc_errors_total",
        kind="counter",
        help="Memory errors: of what kind, since the driver was loaded or in the device's life",
        labels=("kind", "since"),
        sources={
            "nvidia": "fields 3 to 6",
            "amd": "ras/*_err_count, the sum of all blocks",
            "intel": "gt/gt*/error_counter/correctable_* and fatal_* of Intel's own i915;"
            " Linux' i915 and xe have no such files",
        },
    ),
    Metric(
        key="ecc_enabled",
        help="1 where the memory corrects errors",
        sources={
            "nvidia": "nvmlDeviceGetEccMode",
            "amd": "what discovery read",
            "intel": "what discovery read",
        },
    ),
    Metric(
        key="remapped_rows_total",
        kind="counter",
        help="Rows of memory that were replaced, by the errors that caused it",
        labels=("kind",),
        sources={"nvidia": "nvmlDeviceGetRemappedRows"},
    ),
    Metric(
        key="row_remap_pending",
        help="1 while a row waits for a reset to be replaced",
        sources={"nvidia": "nvmlDeviceGetRemappedRows"},
    ),
    Metric(
        key="row_remap_failed",
        help="1 where a row could not be replaced",
        sources={"nvidia": "nvmlDeviceGetRemappedRows"},
    ),
    Metric(
        key="row_banks",
        help="Banks of memory by the spare rows that they have left: max, high, partial, low, none",
        labels=("spare",),
        sources={"nvidia": "nvmlDeviceGetRowRemapperHistogram"},
    ),
    Metric(
        key="retired_pages",
        help="Pages of memory that are not used any more",
        labels=("state",),
        sources={"amd": "ras/gpu_vram_bad_pages: retired, pending, failed"},
    ),
    Metric(
        key="pcie_bytes_per_second",
        unit="bytes/second",
        help="Data over PCIe, seen from the device",
        labels=("direction",),
        sources={
            "nvidia": "nvmlGpmMetricsGet 20 and 21, since Hopper",
        },
    ),
    Metric(
        key="pcie_replays_total",
        kind="counter",
        help="PCIe packets that had to be sent again",
        sources={
            "nvidia": "nvmlDeviceGetPcieReplayCounter",
            "amd": "pcie_replay_count, else gpu_metrics pcie_replay_count_acc since format 1.4",
        },
    ),
    Metric(
        key="link_errors_total",
        kind="counter",
        help="Errors of the links to other GPUs, the sum of all links",
        labels=("link", "kind"),
        sources={
            "nvidia": "nvlink: fields 38, 45, 52, 59 (crc_flit, crc_data, replay, recovery)",
            "amd": "xgmi: ras/xgmi_wafl_err_count (corrected, uncorrected)",
        },
    ),
    Metric(
        key="fan_ratio",
        unit="ratio",
        help="Speed of a fan as a part of its highest",
        labels=("fan",),
        sources={"nvidia": "nvmlDeviceGetFanSpeed", "amd": "hwmon pwm1 over pwm1_max"},
    ),
    Metric(
        key="fan_rpm",
        unit="rpm",
        help="Speed of a fan in revolutions per minute",
        labels=("fan",),
        sources={"amd": "hwmon fan1_input", "intel": "hwmon fan*_input"},
    ),
)

METRICS: Mapping[str, Metric] = {
    m.key: replace(m, aliases=ALIASES.get(m.key, ())) for m in (*DERIVED, *MEASURED)
}
