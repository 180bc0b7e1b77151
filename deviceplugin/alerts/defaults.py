"""The rules that every cluster can use, for Prometheus; pure.

Series of devices have the label `device` where they come from health and the ledger, and `uuid`
where they were measured: `_BY_UUID` makes the one of the other.
"""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.telemetry.metric import PREFIX as GPU


class Rule(Struct, frozen=True, kw_only=True):
    """An alerting rule: `summary` is one line, `action` what a person does."""

    name: str
    expr: str
    duration: str = "0s"
    severity: str
    summary: str
    action: str


_STALE_ROUNDS = 3


def _by_uuid(expr: str) -> str:
    return f'label_replace({expr}, "uuid", "$1", "device", "(.+)")'


def _by_device(expr: str) -> str:
    return f'label_replace({expr}, "device", "$1", "uuid", "(.+)")'


_OF_NODE: Sequence[Rule] = (
    Rule(
        name="DevicepluginCapacityShrunk",
        expr='sum by (instance, resource) (deviceplugin_devices{health="Unhealthy"}) > 0',
        duration="5m",
        severity="warning",
        summary="{{ $value }} of {{ $labels.resource }} cannot be allocated",
        action="deviceplugin health on the node says which devices, why, and what to do",
    ),
    Rule(
        name="DevicepluginGpuUnhealthy",
        expr='deviceplugin_device_condition{condition="unhealthy"} == 1'
        f" or {_by_device(f'{GPU}up')} == 0",
        severity="critical",
        summary="{{ $labels.device }} is Unhealthy or lost",
        action="deviceplugin health on the node says why, and what to do",
    ),
    Rule(
        name="DevicepluginGpuFlaps",
        expr='changes(deviceplugin_device_condition{condition="healthy"}[1h]) > 3',
        severity="warning",
        summary="{{ $labels.device }} changed between healthy and not {{ $value }} times in 1 h",
        action="cordon it (deviceplugin cordon) until the cause is found",
    ),
    Rule(
        name="DevicepluginAllocationsFail",
        expr="sum by (instance, resource) (rate(deviceplugin_allocation_refusals_total[5m])) > 0",
        duration="5m",
        severity="warning",
        summary="requests for {{ $labels.resource }} are refused",
        action="the log's allocate_refused has the reason",
    ),
    Rule(
        name="DevicepluginNotRegistered",
        expr="sum by (instance, resource) (deviceplugin_devices)"
        " unless sum by (instance, resource)"
        ' (deviceplugin_registrations_total{result="accepted"} > 0)',
        duration="2m",
        severity="critical",
        summary="the kubelet has not accepted {{ $labels.resource }}",
        action="look for another plugin of the same resource, and at the kubelet's log",
    ),
    Rule(
        name="DevicepluginRegistersAgain",
        expr="sum by (instance, resource)"
        ' (increase(deviceplugin_registrations_total{result="accepted"}[10m])) > 3',
        severity="critical",
        summary="{{ $labels.resource }} was registered {{ $value }} times in 10 minutes",
        action="the kubelet restarts, or two plugins have the same resource: see the kubelet's log",
    ),
    Rule(
        name="DevicepluginMemoryOvercommitted",
        expr="deviceplugin_device_granted_bytes > on (instance, device)"
        f" max by (instance, device) ({_by_device(f'{GPU}memory_total_bytes')})",
        severity="critical",
        summary="more memory of {{ $labels.device }} is granted than it has",
        action="the GPU or its rules have changed under running pods: end some of them",
    ),
    Rule(
        name="DevicepluginMemoryLimitBreached",
        expr="max by (instance, namespace, pod, container, device)"
        f" ({_by_device(f'{GPU}pod_memory_used_bytes')})"
        " > on (instance, namespace, pod, container, device)"
        " deviceplugin_container_granted_bytes",
        duration="1m",
        severity="warning",
        summary="{{ $labels.namespace }}/{{ $labels.pod }} uses more of {{ $labels.device }} than"
        " it was granted",
        action="limits between time-slices are the program's to keep: tell its owner",
    ),
    Rule(
        name="DevicepluginSliceLimitBreached",
        expr="max by (instance, device) (deviceplugin_slices_exceeded) > 0",
        duration="1m",
        severity="warning",
        summary="{{ $value }} containers use more of {{ $labels.device }} than they were granted",
        action="the log's slice_exceeded names them; docs/enforcement.md says what could hold them",
    ),
    Rule(
        name="DevicepluginIdleAllocated",
        expr=f'avg_over_time({GPU}utilization_ratio{{engine="compute"}}[1h]) < 0.01'
        f" and on (instance, uuid)"
        f" {_by_uuid('min_over_time(deviceplugin_device_holders[1h])')} > 0",
        severity="info",
        summary="{{ $labels.uuid }} is held and has done nothing for 1 h",
        action="ask its owner whether the pod still needs it",
    ),
    Rule(
        name="DevicepluginGpuBypassed",
        expr="sum by (instance, device) (deviceplugin_bypass_processes) > 0",
        severity="critical",
        summary="{{ $labels.device }} is used by {{ $value }} processes without an allocation",
        action="deviceplugin health on the node says by which pods; delete them, see render access",
    ),
    Rule(
        name="DevicepluginRowRemapPending",
        expr=f"{GPU}row_remap_pending == 1",
        duration="24h",
        severity="warning",
        summary="{{ $labels.uuid }} waits for a reset to replace a row of memory",
        action="drain the GPU and reset it",
    ),
    Rule(
        name="DevicepluginNoSpareRows",
        expr=f'{GPU}row_banks{{spare="none"}} > 0',
        severity="critical",
        summary="{{ $value }} banks of {{ $labels.uuid }} have no spare row left",
        action="the next error stays: plan the GPU's replacement",
    ),
    Rule(
        name="DevicepluginLibraryTimesOut",
        expr='deviceplugin_device_fault{code="health_unreadable"} == 1',
        duration="5m",
        severity="warning",
        summary="the driver does not answer about {{ $labels.device }}",
        action="see the kernel's log; a driver that hangs needs a reboot",
    ),
    Rule(
        name="DevicepluginPowerBrake",
        expr=f'count by (instance) ({GPU}throttled{{reason="power_brake"}} == 1) >= 2',
        severity="warning",
        summary="power is held down on {{ $value }} GPUs of the node",
        action="check power supplies and the rack's power: no single GPU is to blame",
    ),
    Rule(
        name="DevicepluginEccOffWhileShared",
        expr=f"{GPU}ecc_enabled == 0 and on (instance, uuid)"
        f" {_by_uuid('deviceplugin_device_shares')} > 1",
        severity="warning",
        summary="{{ $labels.uuid }} is shared and its memory corrects no errors",
        action="enable ECC, or share another GPU",
    ),
)
_SEE = "deviceplugin maintenance show on the node has the figures and what they are worth"
_AHEAD: Sequence[Rule] = (
    Rule(
        name="DevicepluginCertainFinding",
        expr="deviceplugin_certain_finding == 1",
        severity="critical",
        summary="{{ $labels.device }}: {{ $labels.finding }}, which only a replacement ends",
        action="plan its replacement: deviceplugin maintenance show says when that costs least",
    ),
    Rule(
        name="DevicepluginFailureProbable",
        expr="deviceplugin_failure_probability > 0.8",
        severity="critical",
        summary="{{ $labels.device }} fails in {{ $labels.window_days }} days with probability"
        " {{ $value }} (calibrated: {{ $labels.calibrated }})",
        action=_SEE,
    ),
    Rule(
        name="DevicepluginRelativeRisk",
        expr="deviceplugin_failure_relative_risk >= 5",
        severity="warning",
        summary="{{ $labels.device }} is {{ $value }} times as likely to fail as the fleet's mean",
        action=_SEE,
    ),
    Rule(
        name="DevicepluginRemainingLifeShort",
        expr="deviceplugin_remaining_life_low_seconds < 30 * 86400",
        severity="warning",
        summary="{{ $labels.device }} may end within 30 days, by its spare rows of memory",
        action=_SEE,
    ),
)


def default_rules(interval_s: float) -> Sequence[Rule]:
    """All of them, for devices that are measured every `interval_s` seconds."""
    limit = _STALE_ROUNDS * interval_s
    stale = Rule(
        name="DevicepluginTelemetryStale",
        expr=f"{GPU}reading_age_seconds > {limit:g}",
        duration="1m",
        severity="warning",
        summary="what is known of {{ $labels.uuid }} is {{ $value }} s old",
        action="the driver does not answer in time: see the log and the kernel's",
    )
    return (*_OF_NODE, *_AHEAD, stale)
