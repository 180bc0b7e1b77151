"""The configuration sections `intel` and `intel_xe`: their keys, defaults and checks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from deviceplugin.names import name_problem, size_class
from deviceplugin.schema import OWN_VERSION, MadeInstance, Scheduling, Section, check_equal

Naming = Literal["native", "driver"]
Strategy = Literal["device-specs", "cdi-cri", "cdi-annotations"]
DOMAIN = "intel.com"
VFIO_SUFFIX = "-vfio"
_TAKEN = frozenset({"gpu", "gpu-monitoring", "gpu-vf"})


class IntelSettings(Section, frozen=True):
    """Section `intel`: names and what a container gets.

    `resource_naming: driver` uses the names of Intel's own plugin (`gpu.intel.com/xe`) instead of
    the native ones; `monitoring` is how many containers may hold `gpu-monitoring` at once.
    """

    resource_naming: Naming = "native"
    monitoring: Annotated[int, Meta(ge=0, le=1024)] = 0
    by_path: bool = True
    device_list_strategy: Annotated[tuple[Strategy, ...], Meta(min_length=1)] = ("device-specs",)


class OneapiRuntime(Section, frozen=True):
    """Features of oneAPI that a container's program is asked to use, by the variables that users'
    images read; oneAPI itself reads none of them."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cooperative_groups": "the GPU and the image decide, there is no switch for it"}
    )

    memory_pool: bool = False
    unified_memory: bool = False
    cooperative_groups: bool = False

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of a container."""
        asked = {
            "ONEAPI_MEMORY_POOL": self.memory_pool,
            "ONEAPI_UNIFIED_MEMORY": self.unified_memory,
        }
        return {name: "true" for name, wanted in asked.items() if wanted}


class OneapiSection(Section, frozen=True):
    """The section `oneapi`: `runtime` sets variables, the rest describes an image."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("version", "features", "libraries"), "it describes a container's image")
    )

    version: str | None = None
    features: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    runtime: OneapiRuntime = OneapiRuntime()


class XeInstance(MadeInstance, frozen=True):
    """A pinned slice: every virtual function of this size class gets this name."""

    execution_units: int | None = None

    def __post_init__(self) -> None:
        """Refuse names that the kubelet or another resource of ours would clash with."""
        super().__post_init__()
        if problem := name_problem(f"{DOMAIN}/{self.name}{VFIO_SUFFIX}"):
            raise ValueError(f"name: what stands after the slash of a resource's name: {problem}")
        if self.name in _TAKEN or self.name.endswith(VFIO_SUFFIX):
            raise ValueError("name: one that no other resource has, such as xe-4gb")


class XeSettings(Section, frozen=True):
    """Section `intel_xe`: SR-IOV slices; a list of instances is also the list of what is offered.

    `version` is the user's own mark of the configuration, nothing depends on it. With `provision`
    each GPU is divided into what is listed.
    """

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType({"version": OWN_VERSION})

    version: str | None = None
    enabled: bool = True
    instances: tuple[XeInstance, ...] = ()
    provision: bool = False
    scheduling: Scheduling = Scheduling()

    def __post_init__(self) -> None:
        """Refuse two instances of one size: the first would hide the second."""
        sizes = [size_class(instance.memory_bytes) for instance in self.instances]
        if twice := {size for size in sizes if sizes.count(size) > 1}:
            raise ValueError(f"instances: each size of memory once; {min(twice)} is listed twice")
        check_equal(self.instances, provision=self.provision)

    def instance_of(self, memory_bytes: int | None) -> XeInstance | None:
        """The pinned slice of the size class of `memory_bytes`, None where none is."""
        if memory_bytes is None:
            return None
        size = size_class(memory_bytes)
        return next((i for i in self.instances if size_class(i.memory_bytes) == size), None)
