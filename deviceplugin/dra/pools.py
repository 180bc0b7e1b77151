"""What has to be written so that a pool's slices are what was planned: as little as can be; pure.

Who reads a pool takes the slices of its highest generation, and none of them unless there are as
many as each says: so one write keeps the generation, several begin a new one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

Document = dict[str, Any]
# Of each slice that was written: what was asked for, and what the API server made of it.
Accepted = Mapping[int, tuple[Document, Document]]


class Writes(Struct, frozen=True, kw_only=True):
    """Slices to delete first, then to put in place of stored ones, then to create."""

    delete: tuple[Document, ...] = ()
    update: tuple[tuple[int, Document], ...] = ()
    create: tuple[tuple[int, Document], ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.delete) + len(self.update) + len(self.create)


class Owner(Struct, frozen=True):
    """The Node that a slice is deleted with."""

    name: str
    uid: str


def writes_of(
    stored: Sequence[Document], specs: Sequence[Document], owner: Owner, accepted: Accepted
) -> Writes:
    """The writes after which `stored` are `specs`; none where they are so already."""
    generation = max((_generation(one) for one in stored), default=0)
    current: dict[int, Document] = {}
    obsolete: list[Document] = []
    for one in sorted(stored, key=_name):
        index = _index(_name(one))
        fits = index is not None and index < len(specs) and index not in current
        if fits and index is not None and _generation(one) == generation:
            current[index] = one
        else:
            obsolete.append(one)
    changed = [
        i for i, spec in enumerate(specs) if not _is_so(current.get(i), spec, accepted.get(i))
    ]
    if len(changed) > 1 or (changed and obsolete) or (len(current) != len(specs) and stored):
        generation, changed = generation + 1, list(range(len(specs)))
    generation = max(generation, 1)
    wanted = {i: _of_generation(specs[i], generation) for i in changed}
    return Writes(
        delete=tuple(obsolete),
        update=tuple((i, _changed(current[i], s)) for i, s in wanted.items() if i in current),
        create=tuple((i, _created(i, s, owner)) for i, s in wanted.items() if i not in current),
    )


def comparable(spec: Document) -> Document:
    """A spec without what is not ours to say: its generation, and when a taint was added."""
    devices = [
        {**device, "taints": [_without_time(taint) for taint in device["taints"]]}
        if device.get("taints")
        else device
        for device in spec.get("devices") or []
    ]
    pool = {k: v for k, v in (spec.get("pool") or {}).items() if k != "generation"}
    return {**spec, "pool": pool, "devices": devices}


def lost_fields(asked: Document, kept: Document) -> tuple[str, ...]:
    """The fields that were asked for and are not there, as the API calls them."""
    return tuple(sorted(_fields(asked) - _fields(kept)))


def _fields(spec: Document) -> set[str]:
    """The names of what a spec, its devices and their capacities have."""
    devices = spec.get("devices") or []
    found = {key for key, value in spec.items() if value}
    found |= {key for device in devices for key in device}
    return found | {
        key for device in devices for one in (device.get("capacity") or {}).values() for key in one
    }


def _is_so(
    stored: Document | None, spec: Document, accepted: tuple[Document, Document] | None
) -> bool:
    """Also where the server dropped a field of that very spec: asking again would drop it again."""
    if stored is None:
        return False
    found, wanted = comparable(stored["spec"]), comparable(spec)
    return found == wanted or (accepted is not None and accepted == (wanted, found))


def _of_generation(spec: Document, generation: int) -> Document:
    return {**spec, "pool": {**spec["pool"], "generation": generation}}


def _changed(stored: Document, spec: Document) -> Document:
    """Taints that stay keep the time at which they were added."""
    times = {
        (device["name"], taint["key"], taint.get("value"), taint["effect"]): taint.get("timeAdded")
        for device in stored["spec"].get("devices") or []
        for taint in device.get("taints") or []
    }
    devices = []
    for device in spec.get("devices") or []:
        taints = [
            _with_time(t, times.get((device["name"], t["key"], t.get("value"), t["effect"])))
            for t in device.get("taints") or []
        ]
        devices.append({**device, "taints": taints} if taints else device)
    return {**stored, "spec": {**spec, "devices": devices} if "devices" in spec else spec}


def _created(index: int, spec: Document, owner: Owner) -> Document:
    reference = {"apiVersion": "v1", "kind": "Node", "name": owner.name, "uid": owner.uid}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {
            "generateName": f"{index:05x}-{spec['driver']}-{owner.name}-"[:240],
            "ownerReferences": [{**reference, "controller": True}],
        },
        "spec": spec,
    }


def _with_time(taint: Document, added: object) -> Document:
    return {**taint, "timeAdded": added} if added else taint


def _without_time(taint: Document) -> Document:
    return {key: value for key, value in taint.items() if key != "timeAdded"}


def _generation(one: Document) -> int:
    return int(one["spec"]["pool"]["generation"])


def _name(one: Document) -> str:
    return str(one["metadata"]["name"])


def _index(name: str) -> int | None:
    """Which slice of the pool it is: our names begin with it."""
    try:
        return int(name.partition("-")[0], 16)
    except ValueError:
        return None
