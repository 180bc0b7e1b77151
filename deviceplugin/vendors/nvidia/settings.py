"""The configuration sections `nvidia`, `mig` and `vgpu`, decoded by msgspec; defaults are ours."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from deviceplugin.names import profile_of, size_class
from deviceplugin.schema import (
    OWN_VERSION,
    Instance,
    MadeInstance,
    Places,
    Scheduling,
    Section,
    check_made,
)
from deviceplugin.vendors.nvidia.folders import PLACES

MigStrategy = Literal["none", "single", "mixed"]
ListStrategy = Literal["auto", "envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]
IdStrategy = Literal["uuid", "index"]
DiscoveryStrategy = Literal["auto", "nvml", "tegra", "wsl"]

CHECKED = "`deviceplugin check FILE --node` holds it against the hardware"
HOOKS = ("nvidia-cdi-hook", "nvidia-ctk")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[-A-Za-z0-9_.]{0,20}")
CDI_STRATEGIES = frozenset({"cdi-annotations", "cdi-cri"})


class NvidiaSection(Section, frozen=True):
    """Technical switches; `device_list_strategy` is made by the node where it is auto;
    `driver_root`, `dev_root` and `driver_library_dirs` are host paths as
    answers name them; an empty `cdi_hook_path` means no hook, none that one is looked for. The last
    five are what containers get beside GPUs: channel 0 is the one that every driver makes."""

    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {
            "driver_root": Places(PLACES, exactly=("/",)),
            "driver_library_dirs": Places(PLACES),
            "dev_root": Places(PLACES, exactly=("/",)),
            "cdi_hook_path": Places(PLACES, HOOKS, exactly=("",)),
        }
    )

    mig_strategy: MigStrategy = "mixed"
    device_list_strategy: tuple[ListStrategy, ...] = ("auto",)
    device_id_strategy: IdStrategy = "uuid"
    pass_device_specs: bool = False
    driver_root: str = "/"
    driver_library_dirs: tuple[str, ...] = ()
    dev_root: str | None = None
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    cdi_hook_path: str | None = None
    library_process: bool = False
    device_discovery_strategy: DiscoveryStrategy = "auto"
    gds: bool = False
    mofed: bool = False
    gdrcopy: bool = False
    imex_channels: tuple[Literal[0], ...] = ()
    imex_required: bool = False

    def __post_init__(self) -> None:
        """Refuse what msgspec cannot express, where it still knows the key's path."""
        if not self.device_list_strategy:
            raise ValueError("device_list_strategy: at least one strategy")
        if self.is_auto and len(self.device_list_strategy) > 1:
            raise ValueError("device_list_strategy: auto stands alone")
        if not _PREFIX.fullmatch(self.cdi_annotation_prefix):
            text = "the first part of an annotation's name: a domain and a slash, as cdi.k8s.io/"
            raise ValueError(f"cdi_annotation_prefix: {text}")
        if self.imex_required and not self.imex_channels:
            raise ValueError("imex_required: it needs a channel: imex_channels: [0]")

    @property
    def is_auto(self) -> bool:
        """Whether the strategy is chosen on the node."""
        return "auto" in self.device_list_strategy

    @property
    def uses_cdi(self) -> bool:
        """Whether any strategy needs CDI files."""
        return bool(CDI_STRATEGIES & set(self.device_list_strategy))

    @property
    def needs_nodes(self) -> bool:
        """Whether answers or CDI files name device nodes."""
        return self.uses_cdi or self.pass_device_specs


class CudaRuntime(Section, frozen=True):
    """Features of CUDA that a container's program is asked to use, by the variables that users'
    images read; CUDA itself reads none of them."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cooperative_groups": "the GPU and the image decide, there is no switch for it"}
    )

    memory_pool: bool = False
    unified_memory: bool = False
    memory_compression: bool = False
    cooperative_groups: bool = False

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of a container."""
        asked = {
            "CUDA_MEMORY_POOL": self.memory_pool,
            "CUDA_UNIFIED_MEMORY": self.unified_memory,
            "CUDA_MEMORY_COMPRESSION": self.memory_compression,
        }
        return {name: "true" for name, wanted in asked.items() if wanted}


class CudaSection(Section, frozen=True):
    """The section `cuda`: `runtime` sets variables, `version` is held against the node's driver and
    told in a label, the rest describes an image."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("features", "libraries"), "it describes a container's image")
    )

    version: str | None = None
    features: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    runtime: CudaRuntime = CudaRuntime()


class MigInstance(MadeInstance, frozen=True):
    """A MIG profile that is offered: `name` is the resource name after the slash."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType({"tensor_cores": CHECKED})

    tensor_cores: int | None = None

    def __post_init__(self) -> None:
        """Check the memory and that the name is one that MIG resources have."""
        Instance.__post_init__(self)
        if not self.name.startswith("mig-"):
            raise ValueError("name: a name that starts with 'mig-', as mig-1g.5gb does")


class MigSection(Section, frozen=True):
    """Which MIG instances are offered and how they are chosen; no `instances`: all. With
    `provision` those that are listed are made of each GPU."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType({"version": OWN_VERSION})

    version: str = "2.0"
    enabled: bool = True
    instances: tuple[MigInstance, ...] | None = None
    provision: bool = False
    scheduling: Scheduling = Scheduling()

    def __post_init__(self) -> None:
        """Refuse the same profile twice."""
        names = [instance.name for instance in self.instances or ()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"instances: each profile once; {min(twice)} is listed twice")
        check_made(self.instances or (), provision=self.provision)
        wrong = [name for name in names if profile_of(name) is None]
        if wrong and self.provision:
            raise ValueError(
                "instances: resources of profiles, as mig-1g.5gb and mig-1g.5gb.me, where provision"
                f" makes them; {wrong[0]} is none"
            )


class VgpuProfile(Instance, frozen=True):
    """A vGPU by the name and the memory that containers get in variables."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"tensor_cores": CHECKED, "compute_units": CHECKED}
    )

    tensor_cores: int | None = None


VgpuFeature = Literal[
    "enhanced_memory_management", "improved_scheduling", "better_isolation", "advanced_monitoring"
]


class VgpuSection(Section, frozen=True):
    """vGPUs in a guest and on a host; `profiles` pins names by memory. `version` and `features`
    are descriptions that change nothing: what a vGPU can do is the hypervisor's choice."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"version": OWN_VERSION, "features": "the hypervisor decides what a vGPU can do"}
    )

    version: str = "8.0"
    enabled: bool = True
    features: tuple[VgpuFeature, ...] = ()
    profiles: tuple[VgpuProfile, ...] = ()
    scheduling: Scheduling = Scheduling()

    def __post_init__(self) -> None:
        """Refuse a second profile of one size: the first would hide it."""
        sizes = [size_class(profile.memory_bytes) for profile in self.profiles]
        if twice := {size for size in sizes if sizes.count(size) > 1}:
            raise ValueError(f"profiles: each size of memory once; {min(twice)} is listed twice")
