"""Checks of a GPU itself: whether it answers, its memory, clocks, heat and power; pure."""

from deviceplugin.diagnose.model import (
    GpuCheck,
    GpuFacts,
    Judged,
    Snapshot,
    failed,
    passed,
    skipped,
    warned,
)

SLOW_S = 1.0
# Faults that have a check of their own.
_IOMMU = frozenset({"no_iommu_group", "iommu_group_in_use", "vfio_node_missing"})
_MODE = frozenset({"mig_mode_pending", "mode_unknown", "partition_missing"})
_NODE = frozenset({"node_missing"})
_MANY_ROWS = 512  # remapped for uncorrectable errors; DCGM warns from there on
_HARDWARE_BRAKES = frozenset({"hw_slowdown", "hw_thermal", "power_brake"})
_NOT_MEASURED = "its vendor measures nothing of it"


def _answers(gpu: GpuFacts, _: Snapshot) -> Judged:
    if not gpu.measures:
        return skipped(_NOT_MEASURED)
    if gpu.answered is None:
        return skipped("not asked: another GPU of its vendor hangs")
    took = "no time" if gpu.latency_s is None else f"{gpu.latency_s * 1000:.0f} ms"
    if not gpu.answered:
        return failed(f"no answer ({took})")
    slow = gpu.latency_s is not None and gpu.latency_s >= SLOW_S
    return warned(took) if slow else passed(took)


def _health(gpu: GpuFacts, _: Snapshot) -> Judged:
    faults = [
        fault
        for fault in gpu.faults
        if fault.code not in _IOMMU | _MODE | _NODE and not fault.source.endswith(".fabric")
    ]
    worst = next((f for f in faults if f.kind.withdraws), None)
    if worst:
        return failed(f"{worst.reason} ({worst.source}/{worst.code})", worst.action)
    warning = next((f for f in faults if f.kind.value == "warn"), None)
    if warning:
        return warned(f"{warning.reason} ({warning.source}/{warning.code})", warning.action)
    return passed("no fault")


def _ecc_mode(gpu: GpuFacts, _: Snapshot) -> Judged:
    measured = gpu.values("ecc_enabled").get(())
    enabled = gpu.device.ecc if measured is None else bool(measured)
    shared = next((f for f in gpu.faults if f.code == "ecc_off_shared"), None)
    if shared:
        return warned(f"off, and the GPU is shared: {shared.reason}", shared.action)
    if enabled is None:
        return skipped("it is not known whether its memory corrects errors")
    return passed("on" if enabled else "off, and the GPU is not shared")


def _ecc_errors(gpu: GpuFacts, _: Snapshot) -> Judged:
    counts = gpu.values("ecc_errors_total")
    if not counts or gpu.device.ecc is False:
        return skipped("no error counters, or none that count")
    text = ", ".join(f"{kind} {n:g} ({since})" for (kind, since), n in sorted(counts.items()))
    if counts.get(("uncorrected", "driver")):
        return failed(text)
    return warned(text) if counts.get(("uncorrected", "ever")) else passed(text)


def _memory(gpu: GpuFacts, _: Snapshot) -> Judged:
    """Rows that were remapped (since Ampere), or pages that were retired."""
    rows, pages = gpu.values("remapped_rows_total"), gpu.values("retired_pages")
    if gpu.values("row_remap_failed").get(()):
        return failed("a row could not be remapped", "replace the GPU")
    if pages.get(("failed",)):
        return failed(f"{pages['failed',]:g} pages could not be retired", "replace the GPU")
    if warning := _worn(gpu):
        return warning
    if rows or pages:
        return passed(f"{sum(rows.values()) + pages.get(('retired',), 0):g} replaced")
    return skipped("nothing tells of replaced memory")


def _worn(gpu: GpuFacts) -> Judged | None:
    """What is no failure yet."""
    banks = gpu.values("row_banks").get(("none",))
    if banks:
        text = f"{banks:g} banks have no spare rows left"
        return warned(text, "plan to replace the GPU: the next uncorrectable error there is final")
    if gpu.values("row_remap_pending").get(()) or gpu.values("retired_pages").get(("pending",)):
        return warned("memory is to be replaced at the next reset", "drain and reset the GPU")
    rows = gpu.values("remapped_rows_total").get(("uncorrected",), 0)
    if rows >= _MANY_ROWS:
        return warned(f"{rows:g} rows remapped", "plan to replace the GPU")
    return None


def _clocks(gpu: GpuFacts, snapshot: Snapshot) -> Judged:
    """What stands in both measurements: NVML may show a brake while a clock only changes."""
    now = gpu.values("throttled")
    if not now:
        return skipped("nothing tells what holds the clocks down")
    before = gpu.values("throttled", earlier=True)
    held = sorted(key[0] for key, on in now.items() if on and before.get(key))
    brakes = [name for name in held if name in _HARDWARE_BRAKES or "prochot" in name]
    if brakes:
        return failed(f"{', '.join(brakes)} for {snapshot.window_s:g} s or longer")
    warm = [name for name in held if "therm" in name or "ratl" in name]
    if warm:
        return warned(f"{', '.join(warm)} for {snapshot.window_s:g} s or longer")
    return passed(f"held by {', '.join(held)}" if held else "not held down")


def _temperature(gpu: GpuFacts, _: Snapshot) -> Judged:
    """Against the product's own limits: no temperature is right for all."""
    limits, found = gpu.values("temperature_limit_celsius"), gpu.values("temperature_celsius")
    margins = [
        (limit - found[sensor,], sensor, kind)
        for (sensor, kind), limit in limits.items()
        if (sensor,) in found
    ]
    if not margins:
        return skipped("no temperature with a limit")
    margin, sensor, kind = min(margins)
    text = f"{sensor} {margin:g} °C below {kind}"
    return passed(text) if margin > 0 else failed(f"{sensor} {-margin:g} °C over {kind}")


def _power(gpu: GpuFacts, snapshot: Snapshot) -> Judged:
    watts, limit = gpu.values("power_watts").get(()), gpu.values("power_limit_watts").get(())
    if watts is not None:
        return passed(f"{watts:.0f} W" + (f" of {limit:.0f} W" if limit else ""))
    readable = any(
        other.values("power_watts")
        for other in snapshot.gpus
        if other.device.product == gpu.device.product and other.device.vendor == gpu.device.vendor
    )
    if readable:
        return warned("not readable, while that of others of its product is")
    return skipped("not readable for this product")


def _partitions(gpu: GpuFacts, _: Snapshot) -> Judged:
    fault = next((f for f in gpu.faults if f.code in _MODE), None)
    if fault:
        return warned(fault.reason, fault.action)
    return passed(f"{len(gpu.parts)} partitions" if gpu.parts else "not partitioned")


def _iommu(gpu: GpuFacts, _: Snapshot) -> Judged:
    fault = next((f for f in gpu.faults if f.code in _IOMMU), None)
    if fault:
        return failed(fault.reason, fault.action)
    given = [d for d in (gpu.device, *gpu.parts) if "vfio" in (d.driver or "")]
    if not given:
        return skipped("it is not given to virtual machines")
    return passed(f"{len(given)} functions, each with a group that can be given away")


GPU_CHECKS = (
    GpuCheck(
        name="answers",
        expected=f"an answer in less than {SLOW_S:g} s",
        source="the vendor's measurement of the GPU, timed",
        action="see the kernel log for this GPU; reset it or reboot the node if it hangs",
        judge=_answers,
    ),
    GpuCheck(
        name="health",
        expected="no fault",
        source="discovery and probes of the vendor",
        action="see docs/health.md for the fault",
        judge=_health,
    ),
    GpuCheck(
        name="ecc_mode",
        expected="on, or the GPU is not shared",
        source="ecc_enabled, the plan of resources",
        action="turn ECC on and reset the GPU, or offer it whole",
        judge=_ecc_mode,
    ),
    GpuCheck(
        name="ecc_errors",
        expected="no uncorrected error",
        source="ecc_errors_total",
        action="drain and reset the GPU; replace it if they come back",
        judge=_ecc_errors,
    ),
    GpuCheck(
        name="memory_rows",
        expected="nothing waits, nothing failed, every bank has spare rows",
        source="remapped_rows_total, row_remap_pending, row_remap_failed, row_banks, retired_pages",
        action="drain and reset the GPU",
        judge=_memory,
    ),
    GpuCheck(
        name="clocks",
        expected="not held down by heat or by the board's power",
        source="throttled, measured twice",
        action="check the node's cooling and power; several GPUs at once point at the rack",
        judge=_clocks,
    ),
    GpuCheck(
        name="temperature",
        expected="below the product's own limits",
        source="temperature_celsius, temperature_limit_celsius",
        action="check the node's cooling",
        judge=_temperature,
    ),
    GpuCheck(
        name="power",
        expected="readable, where it is of others of the product",
        source="power_watts",
        action="see the kernel log for this GPU; reset it",
        judge=_power,
    ),
    GpuCheck(
        name="partitions",
        expected="the mode in force is the one that is set, with all partitions",
        source="discovery of the vendor",
        action="reset the GPU",
        judge=_partitions,
    ),
    GpuCheck(
        name="iommu",
        expected="a group of its own, with VFIO nodes",
        source="iommu_group of the function, /dev/vfio",
        action="turn the IOMMU on; bind every function of the group to vfio-pci",
        judge=_iommu,
    ),
)
