"""The configuration section `enforcement`; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from deviceplugin.schema import Places, Section, section_of


class ExcessSection(Section, frozen=True):
    """Containers that use more than was granted are reported: `watch` says whether anybody looks,
    `tolerance_percent` how much more is let pass, `policy` whether the pod's eviction is asked for.
    """

    watch: bool = False
    tolerance_percent: int = 5
    policy: Literal["warn", "evict-request"] = "warn"

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 <= self.tolerance_percent <= 100:
            raise ValueError("tolerance_percent: a whole number from 0 to 100")


class NvidiaLimits(Section, frozen=True):
    """`library` is HAMi-core's libvgpu.so on the host, with its ld.so.preload beside it, `mps`
    whether slices of memory whose rule names no sharing method are shared by MPS where its control
    program is on the node: both limit programs that cooperate."""

    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {"library": Places(("/usr", "/opt", "/var/lib"), ("libvgpu.so",))}
    )

    library: str | None = None
    mps: Literal["auto", "off"] = "off"


class EnforcementSection(Section, frozen=True):
    """What holds a container to its slices of memory.

    `memory` is how the kernel's limit is set: by the container runtime before the container starts
    (nri), in the container's cgroup shortly after (cgroup), whichever is possible (auto), or not at
    all. `minimum` also protects the slice from eviction by others (dmem.min). `failure` is what
    becomes of a container whose limit cannot be set. With `file` it also finds what it was told in
    a file that it can read and not write. `writer` is who writes cgroups: the daemon, or the
    privileged process `deviceplugin provision` (helper).
    """

    memory: Literal["auto", "nri", "cgroup", "off"] = "off"
    minimum: bool = False
    failure: Literal["refuse", "warn"] = "refuse"
    file: bool = False
    writer: Literal["daemon", "helper"] = "daemon"
    excess: ExcessSection = ExcessSection()
    nvidia: NvidiaLimits = NvidiaLimits()


SECTIONS: Mapping[str, Any] = {"enforcement": EnforcementSection}


def enforcement_section(sections: Mapping[str, object]) -> EnforcementSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "enforcement", EnforcementSection)
