"""The values of a scenario: GPUs, MIG devices, links, faults. Nothing here touches a file."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

GPU_IS_LOST = 15
LINK_TO_GPU, LINK_TO_SWITCH = 0, 2
ANCESTOR_SINGLE, ANCESTOR_NODE, ANCESTOR_SYSTEM = 10, 40, 50


class GiProfile(Struct, frozen=True, kw_only=True):
    """A GPU instance profile as the driver offers it: `id` is the driver's, `index` NVML's."""

    index: int
    id: int
    name: str
    slices: int
    instances: int
    sms: int
    memory_mb: int
    copy: int = 1
    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0
    p2p: int = 0
    size: int = 1
    starts: tuple[int, ...] = (0,)


class CiProfile(Struct, frozen=True, kw_only=True):
    """A compute instance profile of the GPU instances whose profile id is `gi_profile`."""

    gi_profile: int
    index: int
    id: int
    name: str
    slices: int
    instances: int
    sms: int
    engine: int = 0
    copy: int = 1
    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0


class MigInstance(Struct, frozen=True, kw_only=True):
    """One MIG device: a compute instance `ci` in a GPU instance `gi`; `slot` is its NVML index."""

    slot: int
    uuid: str
    name: str | None = None
    gi: int
    gi_profile: int
    start: int
    size: int
    ci: int = 0
    ci_profile: int
    ci_start: int = 0
    ci_size: int = 1
    gi_slices: int
    ci_slices: int
    sms: int
    copy: int
    decoder: int
    encoder: int
    jpeg: int
    ofa: int
    memory_mb: int
    memory_used_bytes: int | None = 0


class NvLink(Struct, frozen=True, kw_only=True):
    """One link of a GPU: the PCI address at its other end and what sits there (0 GPU, 2 switch)."""

    link: int
    remote: str | None
    remote_type: int | None = LINK_TO_GPU
    state: int = 1
    version: int | None = None


class RemappedRows(Struct, frozen=True, kw_only=True):
    corrected: int = 0
    uncorrected: int = 0
    pending: bool = False
    failure: bool = False


class RowHistogram(Struct, frozen=True, kw_only=True):
    """Memory banks by spare rows left: all, most, some, few, none."""

    max: int = 640
    high: int = 0
    partial: int = 0
    low: int = 0
    none: int = 0


class SramErrors(Struct, frozen=True, kw_only=True):
    aggregate_uncorrected: int = 0
    aggregate_corrected: int = 0
    volatile_uncorrected: int = 0
    volatile_corrected: int = 0
    threshold_exceeded: bool = False


class EccCounter(Struct, frozen=True, kw_only=True):
    """Type 0 corrected, 1 uncorrected; counter 0 volatile, 1 aggregate; no location: the total."""

    type: int
    counter: int
    value: int
    location: int | None = None


class Fabric(Struct, frozen=True, kw_only=True):
    """State 0 unsupported, 1 not started, 2 in progress, 3 completed; cluster as 32 hex digits."""

    cluster: str = "7b968a6dc8aa45e19e07e1e51be99c31"
    clique: int = 1
    state: int = 3
    status: int = 0
    health_mask: int = 0
    health_summary: int = 1


class Process(Struct, frozen=True, kw_only=True):
    pid: int
    memory: int
    gi: int | None = None
    ci: int | None = None
    sm: int | None = None
    graphics: bool = False


class Gpm(Struct, frozen=True, kw_only=True):
    """A counter of GPM, in thousandths of its unit, of the GPU or of its instance `gi`."""

    metric: int
    value: int
    gi: int | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU. A value that is None is one NVML answers NOT_SUPPORTED for.

    `index` names the GPU within the scenario; NVML's index is its place among those present.
    """

    index: int
    uuid: str
    name: str | None
    minor: int | None
    pci_domain: int = 0
    pci_bus: int
    pci_device: int = 0
    pci_device_id: int | None = 0x20B010DE
    pci_subsystem_id: int | None = 0x134F10DE
    serial: str | None = None
    board_id: int | None = None
    memory_total_bytes: int | None
    memory_used_bytes: int | None = 0
    memory_reserved_bytes: int | None = 0
    compute_major: int | None = 8
    compute_minor: int | None = 0
    architecture: int | None = 7
    mig_current: int | None = 0
    mig_pending: int | None = 0
    mig_max: int | None = 7
    event_types: int | None = 0xC10F
    ecc_current: int | None = 1
    ecc_pending: int | None = 1
    retired_single: int | None = None
    retired_double: int | None = None
    retired_pending: int | None = None
    clocks_event_reasons: int | None = 0
    temperature_c: int | None = 34
    power_usage_mw: int | None = 56_000
    power_limit_mw: int | None = 400_000
    energy_mj: int | None = 1_000_000
    utilization_gpu_percent: int | None = 0
    utilization_memory_percent: int | None = 0
    clock_graphics_mhz: int | None = 210
    clock_sm_mhz: int | None = 210
    clock_mem_mhz: int | None = 1215
    clock_video_mhz: int | None = 585
    max_clock_graphics_mhz: int | None = 1410
    max_clock_sm_mhz: int | None = 1410
    max_clock_mem_mhz: int | None = 1215
    max_clock_video_mhz: int | None = 1290
    memory_bus_bits: int | None = None
    fan_speed_percent: int | None = None
    pcie_replays: int | None = 0
    pcie_gen: int | None = 4
    pcie_width: int | None = 16
    max_pcie_gen: int | None = 4
    max_pcie_width: int | None = 16
    virtualization: int | None = 0
    persistence: int | None = 1
    compute_mode: int | None = 0
    licensed: int | None = None
    pstate: int | None = 0
    encoder_percent: int | None = None
    decoder_percent: int | None = None
    jpeg_percent: int | None = None
    ofa_percent: int | None = None
    shutdown_c: int | None = None
    slowdown_c: int | None = None
    memory_max_c: int | None = None
    gpm: tuple[Gpm, ...] = ()
    recovery_action: int | None = 0
    fields: Mapping[int, int] = field(default_factory=dict)
    remapped: RemappedRows | None = RemappedRows()
    histogram: RowHistogram | None = RowHistogram()
    sram: SramErrors | None = SramErrors()
    ecc: tuple[EccCounter, ...] = ()
    fabric: Fabric | None = None
    processes: tuple[Process, ...] = ()
    nvlinks: tuple[NvLink, ...] = ()
    gi_profiles: tuple[GiProfile, ...] = ()
    ci_profiles: tuple[CiProfile, ...] = ()
    mig: tuple[MigInstance, ...] = ()
    mig_generation: int = 0
    pci_class: str = "0x030200"
    numa_node: int = 0
    local_cpulist: str = "0-15"

    @property
    def bdf(self) -> str:
        """The address as sysfs spells it."""
        return f"{self.pci_domain:04x}:{self.pci_bus:02x}:{self.pci_device:02x}.0"

    @property
    def bus_id(self) -> str:
        """The address as NVML spells it."""
        return f"{self.pci_domain:08X}:{self.pci_bus:02X}:{self.pci_device:02X}.0"


class Fault(Struct, frozen=True, kw_only=True):
    """What befalls calls whose name matches `function` (a shell pattern) on a GPU, or on any."""

    kind: Literal["error", "hang", "slow", "crash", "lie"]
    function: str = "*"
    gpu: int | None = None
    except_for: str | None = None
    code: int | None = None
    ms: int | None = None
    how: Literal["segv", "abort", "exit"] | None = None
    bytes: str | None = None
    number: int | None = None


class Scenario(Struct, frozen=True, kw_only=True):
    """One machine as NVML sees it. `ancestors` overrides what NUMA nodes say of a pair of GPUs."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = "550.163.01"
    nvml_version: str | None = "12.550.163.01"
    cuda_version: int | None = 12040
    confidential: int | None = None
    devtools: int = 0
    init_code: int = 0
    faults: tuple[Fault, ...] = ()
    ancestors: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def gpu(self, index: int) -> Gpu:
        return next(gpu for gpu in self.gpus if gpu.index == index)

    def with_gpu(self, changed: Gpu) -> "Scenario":
        gpus = tuple(changed if gpu.index == changed.index else gpu for gpu in self.gpus)
        return replace(self, gpus=gpus)
