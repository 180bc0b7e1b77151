"""The names that other exporters have for our metrics, so that dashboards go on working; pure."""

from collections.abc import Mapping

from deviceplugin.telemetry.metric import Alias, Kind, Where


def _dcgm(name: str, text: str, scale: float = 1.0, kind: Kind = "gauge", /, **where: str) -> Alias:
    return Alias(
        family="dcgm",
        name=f"DCGM_FI_{name}",
        help=text,
        kind=kind,
        scale=scale,
        where=tuple(where.items()),
    )


def _amd(name: str, text: str, scale: float = 1.0, kind: Kind = "gauge", /, **where: str) -> Alias:
    return Alias(
        family="amd", name=name, help=text, kind=kind, scale=scale, where=tuple(where.items())
    )


def _xpumd(
    name: str, text: str, labels: Where = (), kind: Kind = "gauge", /, **where: str
) -> Alias:
    return Alias(
        family="xpumd", name=name, help=text, kind=kind, labels=labels, where=tuple(where.items())
    )


def _accelerator(name: str, text: str, scale: float = 1.0, /, **where: str) -> Alias:
    return Alias(
        family="accelerator",
        name=f"accelerator_{name}",
        help=text,
        scale=scale,
        where=tuple(where.items()),
    )


_MIB = 1 / (1 << 20)
_MB = 1e-6
_PERCENT = 100.0
_MHZ = 1e-6

ALIASES: Mapping[str, tuple[Alias, ...]] = {
    "info": (Alias(family="xpumd", name="hw_gpu_info", help="1; labels describe the device"),),
    "utilization_ratio": (
        _dcgm("DEV_GPU_UTIL", "GPU utilization (in %)", _PERCENT, engine="compute"),
        _dcgm("DEV_MEM_COPY_UTIL", "Memory utilization (in %)", _PERCENT, engine="memory"),
        _dcgm("DEV_ENC_UTIL", "Encoder utilization (in %)", _PERCENT, engine="encoder"),
        _dcgm("DEV_DEC_UTIL", "Decoder utilization (in %)", _PERCENT, engine="decoder"),
        _dcgm("PROF_GR_ENGINE_ACTIVE", "Ratio of time the engine is active", engine="graphics"),
        _dcgm("PROF_SM_ACTIVE", "Ratio of cycles an SM has a warp assigned", engine="sm"),
        _dcgm("PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles tensor is active", engine="tensor"),
        _dcgm("PROF_DRAM_ACTIVE", "Ratio of cycles the memory is active", engine="dram"),
        _amd("gpu_gfx_activity", "Graphics engine usage (in %)", _PERCENT, engine="compute"),
        _amd("gpu_umc_activity", "Memory engine usage (in %)", _PERCENT, engine="memory"),
        _xpumd("hw_gpu_utilization_ratio", "Utilization of the GPU", engine="compute"),
        _accelerator(
            "gpu_utilization", "Utilization of the GPU (in %)", _PERCENT, engine="compute"
        ),
    ),
    "memory_used_bytes": (
        _dcgm("DEV_FB_USED", "Framebuffer memory used (in MiB)", _MIB),
        _amd("gpu_used_vram", "Used VRAM (in MB)", _MB),
        _accelerator("memory_used_bytes", "Memory in use"),
    ),
    "memory_free_bytes": (
        _dcgm("DEV_FB_FREE", "Framebuffer memory free (in MiB)", _MIB),
        _amd("gpu_free_vram", "Free VRAM (in MB)", _MB),
    ),
    "memory_reserved_bytes": (
        _dcgm("DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB)", _MIB),
    ),
    "memory_total_bytes": (
        _amd("gpu_total_vram", "Total VRAM (in MB)", _MB),
        _accelerator("memory_total_bytes", "Memory of the device"),
    ),
    "temperature_celsius": (
        _dcgm("DEV_GPU_TEMP", "GPU temperature (in C)", sensor="gpu"),
        _dcgm("DEV_MEMORY_TEMP", "Memory temperature (in C)", sensor="memory"),
        _amd("gpu_edge_temperature", "Edge temperature (in C)", sensor="gpu"),
        _amd("gpu_junction_temperature", "Junction temperature (in C)", sensor="hotspot"),
        _amd("gpu_memory_temperature", "Memory temperature (in C)", sensor="memory"),
        _xpumd("hw_temperature_celsius", "Temperature", sensor="gpu"),
        _accelerator("temperature_celsius", "Temperature of the GPU", sensor="gpu"),
    ),
    "power_watts": (
        _dcgm("DEV_POWER_USAGE", "Power draw (in W)"),
        _amd("gpu_package_power", "Power of the package (in W)"),
        _xpumd("hw_power_watts", "Power"),
        _accelerator("power_usage_watts", "Power that the GPU draws"),
    ),
    "power_limit_watts": (_dcgm("DEV_POWER_MGMT_LIMIT", "Power limit (in W)"),),
    "energy_joules_total": (
        _dcgm(
            "DEV_TOTAL_ENERGY_CONSUMPTION",
            "Energy since the driver was loaded (in mJ)",
            1000.0,
            "counter",
        ),
        _amd("gpu_energy_consumed", "Energy (in uJ)", 1e6, "counter"),
        _xpumd("hw_energy_joules_total", "Energy", (), "counter"),
    ),
    "clock_hertz": (
        _dcgm("DEV_SM_CLOCK", "SM clock frequency (in MHz)", _MHZ, clock="sm"),
        _dcgm("DEV_MEM_CLOCK", "Memory clock frequency (in MHz)", _MHZ, clock="memory"),
        _xpumd("hw_frequency_hertz", "Frequency", clock="graphics"),
        _accelerator("sm_clock_hertz", "Clock of the compute units", clock="sm"),
        _accelerator("memory_clock_hertz", "Clock of the memory", clock="memory"),
    ),
    "throttled_seconds_total": (
        _dcgm("DEV_POWER_VIOLATION", "Throttling by power (in us)", 1e6, "counter", reason="power"),
        _dcgm(
            "DEV_THERMAL_VIOLATION", "Throttling by heat (in us)", 1e6, "counter", reason="thermal"
        ),
    ),
    "ecc_errors_total": (
        _dcgm(
            "DEV_ECC_SBE_VOL_TOTAL",
            "Single-bit volatile ECC errors",
            1.0,
            "counter",
            kind="corrected",
            since="driver",
        ),
        _dcgm(
            "DEV_ECC_DBE_VOL_TOTAL",
            "Double-bit volatile ECC errors",
            1.0,
            "counter",
            kind="uncorrected",
            since="driver",
        ),
        _dcgm(
            "DEV_ECC_SBE_AGG_TOTAL",
            "Single-bit persistent ECC errors",
            1.0,
            "counter",
            kind="corrected",
            since="ever",
        ),
        _dcgm(
            "DEV_ECC_DBE_AGG_TOTAL",
            "Double-bit persistent ECC errors",
            1.0,
            "counter",
            kind="uncorrected",
            since="ever",
        ),
        _amd("gpu_ecc_correct_total", "Correctable ECC errors", kind="corrected"),
        _amd("gpu_ecc_uncorrect_total", "Uncorrectable ECC errors", kind="uncorrected"),
    ),
    "remapped_rows_total": (
        _dcgm(
            "DEV_CORRECTABLE_REMAPPED_ROWS",
            "Rows remapped for correctable errors",
            1.0,
            "counter",
            kind="corrected",
        ),
        _dcgm(
            "DEV_UNCORRECTABLE_REMAPPED_ROWS",
            "Rows remapped for uncorrectable errors",
            1.0,
            "counter",
            kind="uncorrected",
        ),
    ),
    "row_remap_failed": (_dcgm("DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed"),),
    "pcie_bytes_per_second": (
        _dcgm("PROF_PCIE_TX_BYTES", "Bytes per second to the host", direction="tx"),
        _dcgm("PROF_PCIE_RX_BYTES", "Bytes per second from the host", direction="rx"),
    ),
    "pcie_replays_total": (
        _dcgm("DEV_PCIE_REPLAY_COUNTER", "PCIe retries", 1.0, "counter"),
        _amd("pcie_replay_count", "PCIe replays", 1.0, "counter"),
    ),
    "link_errors_total": (
        _dcgm(
            "DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
            "NVLink flow-control CRC errors",
            1.0,
            "counter",
            link="nvlink",
            kind="crc_flit",
        ),
        _dcgm(
            "DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
            "NVLink data CRC errors",
            1.0,
            "counter",
            link="nvlink",
            kind="crc_data",
        ),
        _dcgm(
            "DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL",
            "NVLink retries",
            1.0,
            "counter",
            link="nvlink",
            kind="replay",
        ),
        _dcgm(
            "DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
            "NVLink recoveries",
            1.0,
            "counter",
            link="nvlink",
            kind="recovery",
        ),
    ),
}
