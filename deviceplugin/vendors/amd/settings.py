"""The configuration sections `amd`, `mxgpu` and `rocm`: schemas and checks, nothing that reads.

`docs/vendors/amd.md` describes each key; keys that the users' documents carry and
that no GPU driver has a switch for are accepted and do nothing.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import msgspec

from deviceplugin.names import name_problem, size_class
from deviceplugin.schema import (
    OWN_VERSION,
    MadeInstance,
    Scheduling,
    Section,
    check_equal,
    section_of,
)

# How the container runtime learns of the devices; device nodes are given in any case.
Strategy = Literal["device-specs", "cdi-cri", "cdi-annotations"]

DOMAIN = "amd.com"
# What a virtual function for virtual machines has after its size, so that no container asks for it.
VFIO_SUFFIX = "-vfio"


_FOLDER = re.compile(r"(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,63}){1,16}")
_GFX_VERSION = re.compile(r"[0-9]{1,2}(\.[0-9]{1,2}){2}")


class AmdSection(Section, frozen=True):
    """The section `amd`: naming of partitions and what a container is given besides its nodes."""

    resource_naming: Literal["single", "mixed"] = "single"
    card_nodes: bool = False
    device_list_strategy: tuple[Strategy, ...] = ("device-specs",)
    hsa_override_gfx_version: str | None = None
    rocm_path: str | None = None

    def __post_init__(self) -> None:
        """Both become variables of containers."""
        if self.rocm_path is not None and not _FOLDER.fullmatch(self.rocm_path):
            raise ValueError("rocm_path: an absolute path in the container, as /opt/rocm")
        version = self.hsa_override_gfx_version
        if version is not None and not _GFX_VERSION.fullmatch(version):
            raise ValueError("hsa_override_gfx_version: three numbers, as 11.0.0")


class MxgpuInstance(MadeInstance, frozen=True):
    """A size of virtual function that is offered, and the name it is offered under."""

    rocm_cores: int | None = None

    def __post_init__(self) -> None:
        """Check memory and name where msgspec can still tell the key's path."""
        super().__post_init__()
        if problem := name_problem(f"{DOMAIN}/{self.name}{VFIO_SUFFIX}"):
            raise ValueError(f"name: what stands after the slash of a resource's name: {problem}")


class MxgpuSection(Section, frozen=True):
    """The section `mxgpu`; an empty list of instances offers every size under its size class.

    `guest_naming` is how a guest's function is called that has a whole GPU's memory: `gpu` as the
    GPU that it is to the guest, `size` by its size class like a fraction. With `provision` each GPU
    is divided into what is listed.
    """

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType({"version": OWN_VERSION})

    version: str | None = None
    enabled: bool = True
    instances: tuple[MxgpuInstance, ...] = ()
    provision: bool = False
    guest_naming: Literal["gpu", "size"] = "gpu"
    scheduling: Scheduling = Scheduling()

    def __post_init__(self) -> None:
        """Refuse two instances of one size or one name."""
        for values in (
            [instance.name for instance in self.instances],
            [size_class(instance.memory_bytes) for instance in self.instances],
        ):
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(
                    f"instances: each size and each name once; {min(twice)} is listed twice"
                )
        check_equal(self.instances, provision=self.provision)


class RocmRuntime(Section, frozen=True):
    """Features of the ROCm runtime that a container is asked to use."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cooperative_groups": "the GPU and the image decide, there is no switch for it"}
    )

    memory_pool: bool = False
    unified_memory: bool = False
    cooperative_groups: bool = False


class RocmSection(Section, frozen=True):
    """The section `rocm`: `runtime` sets variables, `version` is held against the node's driver and
    told in a label, the rest describes an image."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("features", "libraries"), "it describes a container's image")
    )

    version: str | None = None
    features: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    runtime: RocmRuntime = RocmRuntime()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The three sections together."""

    amd: AmdSection = msgspec.field(default_factory=AmdSection)
    mxgpu: MxgpuSection = msgspec.field(default_factory=MxgpuSection)
    rocm: RocmSection = msgspec.field(default_factory=RocmSection)


def parse_sections(sections: Mapping[str, msgspec.Struct]) -> Settings:
    """The settings from decoded sections by name; a missing one has its defaults.

    Raises TypeError for a value that is not of its section's schema.
    """
    return Settings(
        amd=section_of(sections, "amd", AmdSection),
        mxgpu=section_of(sections, "mxgpu", MxgpuSection),
        rocm=section_of(sections, "rocm", RocmSection),
    )
