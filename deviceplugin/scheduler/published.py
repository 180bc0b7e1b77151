"""What is kept of ResourceSlices: devices without what only tells one GPU from another; pure.

A cluster has few products. Slices that say the same are one value, whatever their number.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, field

from deviceplugin.scheduler.asks import Counters
from deviceplugin.scheduler.objects import Meta
from deviceplugin.scheduler.quantities import amount

STANDARD = "resource.kubernetes.io"
# The vendors' own drivers, under whose names ours publishes, too.
DRIVERS = frozenset({"gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com"})
# What tells one GPU from another: it is kept as the GPU's id, and no selector is judged by it.
IDENTITY = frozenset(
    {
        *("uuid", "parentUUID", "pciAddr", "parentPciAddr", "parentDeviceID", "pciAddress"),
        *("pciBusID", "pciRoot", "linkGroup", "deviceID", "cardIndex", "renderIndex", "gpuIndex"),
    }
)
_IDS = ("parentUUID", "uuid", "parentPciAddr", "pciAddr", f"{STANDARD}/pciBusID", "pciAddress")
_PARTS = ("mig", "amdgpu-partition", "vf")
_KEEPS_OFF = ("NoSchedule", "NoExecute")
MAX_KEPT = 20_000  # kinds and contents that are remembered as ones that may come again


class Kind(Struct, frozen=True, eq=False):
    """Devices of which the same is known: `attributes` as the API server has them, by names with
    the domain, and `capacity` as quantities. Those of which `several` claims can have a part say
    how much by `defaults` one has that names no amount."""

    driver: str
    attributes: Mapping[str, Mapping[str, Any]]
    capacity: Mapping[str, str]
    several: bool = False
    defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def plain(self, name: str) -> Any:
        """The value of one of the driver's own attributes, or a standard one; None if unknown."""
        found = self.attributes.get(name) or self.attributes.get(f"{self.driver}/{name}") or {}
        return next(iter(found.values()), None)

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a GPU."""
        return self.plain("type") in _PARTS

    @property
    def memory_mib(self) -> int | None:
        """MiB; some drivers say 0 for what they do not know."""
        return amount(self.capacity.get("memory", "")) >> 20 or None

    @property
    def model(self) -> str:
        """As feature discovery writes it in a label; empty if unknown."""
        found = self.plain("productName") or self.plain("model") or ""
        return str(found).replace(" ", "-")


class SliceDevice(Struct, frozen=True, gc=False):
    """A device: on which of the slice's GPUs, whether a taint keeps claims off it, and of which
    sets it takes how many of each counter."""

    name: str
    kind: Kind
    gpu: int
    tainted: bool = False
    takes: tuple[tuple[str, Counters], ...] = ()


class Content(Struct, frozen=True, eq=False):
    """Devices and sets of counters; the same ones are one value."""

    devices: tuple[SliceDevice, ...] = ()
    counters: tuple[tuple[str, Counters], ...] = ()


class Slice(Struct, frozen=True, kw_only=True):
    """A slice: whose it is, and of its GPUs the ids and the groups of those that are linked."""

    name: str
    driver: str
    pool: str
    node: str
    generation: int = 0
    count: int = 1
    content: Content = Content()
    gpus: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class _Policy(Struct):
    default: str | int | float | None = None


class _Amount(Struct, rename="camel"):
    value: str | int | float = 0
    request_policy: _Policy | None = None


class _Counters(Struct, rename="camel"):
    name: str = ""
    counter_set: str = ""
    counters: dict[str, _Amount] | None = None


class _Taint(Struct):
    effect: str = ""


class _Device(Struct, rename="camel"):
    name: str = ""
    attributes: dict[str, dict[str, Any]] | None = None
    capacity: dict[str, _Amount] | None = None
    consumes_counters: list[_Counters] | None = None
    taints: list[_Taint] | None = None
    allow_multiple_allocations: bool | None = None


class _Pool(Struct, rename="camel"):
    name: str = ""
    generation: int = 0
    resource_slice_count: int = 1


class _Spec(Struct, rename="camel"):
    driver: str = ""
    pool: _Pool = field(default_factory=_Pool)
    node_name: str | None = None
    devices: list[_Device] | None = None
    shared_counters: list[_Counters] | None = None


class ResourceSlice(Struct):
    """A slice as the API server has it."""

    metadata: Meta = field(default_factory=Meta)
    spec: _Spec = field(default_factory=_Spec)


class Keeping:
    """Makes slices small. What is said twice is kept once; it lives on the watch's thread."""

    def __init__(self, drivers: frozenset[str]) -> None:
        self._drivers = drivers
        self._kinds: dict[bytes, Kind] = {}
        self._contents: dict[object, Content] = {}

    def small(self, found: ResourceSlice) -> Slice:
        """The slice; without anything of its content where it is no GPU driver's, or no node's."""
        spec = found.spec
        kept = Slice(
            name=found.metadata.name,
            driver=spec.driver,
            pool=spec.pool.name,
            node=spec.node_name or "",
            generation=spec.pool.generation,
            count=spec.pool.resource_slice_count,
        )
        if spec.driver not in self._drivers or not kept.node:
            return msgspec.structs.replace(kept, driver="")
        ids: dict[str, str] = {}
        devices = tuple(self._device(spec.driver, one, ids) for one in spec.devices or [])
        counters = tuple((one.name, _counters(one)) for one in spec.shared_counters or [])
        return msgspec.structs.replace(
            kept,
            content=self._content(devices, counters),
            gpus=tuple(ids),
            groups=tuple(ids.values()),
        )

    def _device(self, driver: str, one: _Device, ids: dict[str, str]) -> SliceDevice:
        attributes = {
            key.removeprefix(f"{driver}/"): value
            for key, value in sorted((one.attributes or {}).items())
        }
        kind = self._kind(driver, one, attributes)
        gpu = _gpu_of(one.name, attributes)
        group = attributes.get("linkGroup", {}).get("string", "")
        ids[gpu] = ids.get(gpu) or str(group)
        return SliceDevice(
            name=one.name,
            kind=kind,
            gpu=list(ids).index(gpu),
            tainted=any(taint.effect in _KEEPS_OFF for taint in one.taints or []),
            takes=tuple(
                (taken.counter_set, _counters(taken)) for taken in one.consumes_counters or []
            ),
        )

    def _kind(self, driver: str, one: _Device, attributes: Mapping[str, Any]) -> Kind:
        kept = {k: v for k, v in attributes.items() if k.rpartition("/")[2] not in IDENTITY}
        capacity = {
            key.removeprefix(f"{driver}/"): str(has.value)
            for key, has in sorted((one.capacity or {}).items())
        }
        defaults = {
            key.removeprefix(f"{driver}/"): str(has.request_policy.default)
            for key, has in sorted((one.capacity or {}).items())
            if has.request_policy is not None and has.request_policy.default is not None
        }
        several = bool(one.allow_multiple_allocations)
        key = msgspec.json.encode((driver, kept, capacity, several, defaults))
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= MAX_KEPT:
                self._kinds.clear()
            found = self._kinds[key] = Kind(driver, kept, capacity, several, defaults)
        return found

    def _content(
        self, devices: tuple[SliceDevice, ...], counters: tuple[tuple[str, Counters], ...]
    ) -> Content:
        key = (devices, counters)
        found = self._contents.get(key)
        if found is None:
            if len(self._contents) >= MAX_KEPT:
                self._contents.clear()
            found = self._contents[key] = Content(devices, counters)
        return found


def _counters(one: _Counters) -> Counters:
    return tuple((name, amount(has.value)) for name, has in sorted((one.counters or {}).items()))


def _gpu_of(name: str, attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """The id of a device's GPU. Functions of a GPU are on its bus."""
    told = (attributes.get(key, {}).get("string") for key in _IDS)
    found = next((str(one) for one in told if one), name)
    is_function = attributes.get("type", {}).get("string") == "vf"
    return found.rpartition(":")[0] or found if is_function else found
