"""Which ResourceSlices an inventory makes: one pool for each driver of the node; pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.dra.attributes import Seen, attributes_of, capacity_of
from deviceplugin.dra.document import Content, spec_of
from deviceplugin.dra.gates import Cluster
from deviceplugin.dra.layout import contents_of
from deviceplugin.dra.limits import (
    MAX_TAINTS,
    MAX_TAINTS_BEFORE_135,
    SliceDevice,
    Taint,
    dropped,
    fitted,
)
from deviceplugin.dra.names import MAX_LABEL
from deviceplugin.dra.partitions import Division, Placement, division, overlap, place_of
from deviceplugin.dra.shares import Shares, shared
from deviceplugin.dra.uniform import uniform
from deviceplugin.model import Device, DeviceID, Fault
from deviceplugin.vendor.partitions import PartitionedGpu

Document = dict[str, Any]


class Pool(Struct, frozen=True, kw_only=True):
    """Whose slices they are: a driver on a node, and what the API server has."""

    driver: str
    node: str
    cluster: Cluster


class Offered(Struct, frozen=True, kw_only=True):
    """A device as claims are to see it: `claimed` by one now, or held `elsewhere` by the device
    plugin.

    `gpu` is there where partitions can be made of it, `shares` where several claims can have it.
    A partition that is there `stays` unless we have made it.
    """

    name: str
    device: Device
    seen: Seen
    faults: tuple[Fault, ...] = ()
    claimed: bool = False
    elsewhere: bool = False
    gpu: PartitionedGpu | None = None
    shares: Shares | None = None
    stays: bool = True


class SlicePlan(Struct, frozen=True, kw_only=True):
    """The specs of a pool's slices, all of generation 0, and what is not published of devices."""

    specs: tuple[Document, ...]
    dropped: tuple[str, ...] = ()


def plan_slices(pool: Pool, offered: Iterable[Offered]) -> SlicePlan:
    """The pool's slices; without a device one that is empty: the driver runs and has nothing.

    Where there are no taints, a device that no claim may have now is left out, unless a claim
    holds it.
    """
    planner = _Planner(pool)
    plain, divided = planner.sorted(tuple(offered))
    contents, problems = contents_of(plain, divided, pool.cluster)
    specs = tuple(spec_of(pool.driver, pool.node, one, len(contents)) for one in contents)
    return SlicePlan(specs=specs, dropped=(*planner.told, *problems))


class _Planner:
    """Makes devices of what is offered; `told` says what of them is not published."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._taints = pool.cluster.has("DRADeviceTaints")
        early = not pool.cluster.separate_counters
        self._most_taints = MAX_TAINTS_BEFORE_135 if early else MAX_TAINTS
        self.told: list[str] = []

    def sorted(
        self, offered: Sequence[Offered]
    ) -> tuple[tuple[SliceDevice, ...], tuple[Content, ...]]:
        """The devices that are what they are, and each GPU that can be cut with its parts."""
        divisions = dict(self._divisions(offered))
        parts: dict[DeviceID, list[Offered]] = {gpu: [] for gpu in divisions}
        plain: list[SliceDevice] = []
        divided: list[Content] = []
        for one in offered:
            if one.device.parent in parts:
                parts[one.device.parent].append(one)
        for one in offered:
            if one.device.id in divisions:
                divided.append(self._divided(one, divisions[one.device.id], parts[one.device.id]))
            elif one.device.parent not in parts:
                plain += self._published(self._whole(one), list(_taints(self._pool, one)), one)
        claimed = {one.name for one in offered if one.claimed}
        plain, told = uniform(plain, claimed)
        self.told += told
        return tuple(plain), tuple(divided)

    def _divisions(self, offered: Iterable[Offered]) -> Iterator[tuple[DeviceID, Division]]:
        if not self._pool.cluster.has("DRAPartitionableDevices"):
            return
        for one in offered:
            found = division(one.name, one.device, one.gpu, one.seen) if one.gpu else None
            if found is not None:
                yield one.device.id, found

    def _whole(self, one: Offered) -> SliceDevice:
        device = device_of(one)
        if one.shares is not None and self._pool.cluster.has("DRAConsumableCapacity"):
            return shared(device, one.shares)
        return device

    def _divided(self, one: Offered, found: Division, parts: Sequence[Offered]) -> Content:
        """The whole, then its parts: those that are there with what is known of them."""
        devices: list[SliceDevice] = []
        own = list(_taints(self._pool, one))
        consumed: Mapping[str, Any] = {found.counter_set: found.whole or {}}
        if found.whole is not None:
            stays = [self._occupied] if any(part.stays or part.elsewhere for part in parts) else []
            whole = replace(device_of(one), consumes=consumed)
            devices += self._published(whole, own + stays, one)
        there = {place: part for part in parts if (place := place_of(part.device)) is not None}
        for place, unmade in found.parts.items():
            part, possible = there.get(place), unmade
            taints = [*own, *self._of_neighbours(one, place, there)]
            if part is not None:
                taints += _taints(self._pool, part)
                known = attributes_of(part.device, part.seen)
                known = {key: value for key, value in known.items() if key in unmade.attributes}
                possible = replace(unmade, attributes={**unmade.attributes, **known})
            devices += self._published(possible, sorted(set(taints)), part)
        return Content(devices=tuple(devices), sets={found.counter_set: found.counters})

    def _of_neighbours(
        self, one: Offered, place: Placement, there: Mapping[Placement, Offered]
    ) -> Iterator[Taint]:
        """What is there and stays keeps others out of its memory."""
        mig = one.gpu.mig if one.gpu is not None else None
        for other, part in there.items() if mig is not None else ():
            kept = part.stays or part.elsewhere
            if kept and other != place and mig is not None and overlap(place, other, mig):
                yield self._occupied

    @property
    def _occupied(self) -> Taint:
        return Taint(key=f"{self._pool.driver}/occupied", value="partition")

    def _published(
        self, device: SliceDevice, taints: Sequence[Taint], one: Offered | None
    ) -> Iterator[SliceDevice]:
        """Nothing where it must not be, or cannot be."""
        claimed = one is not None and one.claimed
        if taints and not self._taints and not claimed:
            return
        device = replace(device, taints=tuple(taints) if self._taints else ())
        fits = fitted(device, most_taints=self._most_taints)
        self.told += dropped(device, fits)
        if fits is not None:
            yield fits


def device_of(one: Offered) -> SliceDevice:
    """A device that nobody shares or cuts."""
    return SliceDevice(
        name=one.name,
        attributes=attributes_of(one.device, one.seen),
        capacity=capacity_of(one.device),
    )


def _taints(pool: Pool, one: Offered) -> Iterator[Taint]:
    """One for each kind of fault that makes it Unhealthy, and one while the device plugin has it:
    a set that follows from what is so now, and ends with it."""
    for key, value in sorted({(f.code, f.source) for f in one.faults if f.kind.withdraws}):
        yield Taint(key=f"{pool.driver}/{_label(key)}", value=_label(value))
    if one.elsewhere:
        yield Taint(key=f"{pool.driver}/in-use", value="device-plugin")


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:MAX_LABEL].strip("-_.")
