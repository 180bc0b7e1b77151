"""What was used and what there was, hour by hour, of each resource of a fleet; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.forecast.past import Hourly, hourly
from deviceplugin.metrics.reply import Series

Answers = Mapping[str, Sequence[Series]]
ALL = "all"
UNITS: Mapping[str, str] = {
    "gpu": "GPUs",
    "partition": "partitions",
    "memory": "bytes",
    "network": "bytes/s",
    "storage": "bytes",
}


# What pods are given: an hour that has a capacity and no pod is one in which nothing was used.
# Where no pod is told at all, as without their names in metrics, that is not known.
SHARED = ("gpu", "partition")


class Place(Struct, frozen=True, kw_only=True):
    """What one node has of a vendor's model; `used` is None where nothing tells it."""

    node: str
    vendor: str
    model: str
    resource: str
    capacity: float
    used: float | None


class Demand(Struct, frozen=True, kw_only=True):
    """What was used of a resource, by everybody (`namespace` is `all`) or by one namespace.
    `capacity` is what there is now, None where nothing tells it; a namespace has none."""

    resource: str
    vendor: str
    namespace: str
    used: Hourly
    capacity: float | None


class Fleet(Struct, frozen=True, kw_only=True):
    """All that was read; `missing` are resources of which the store has no data."""

    start: float
    end: float
    demands: tuple[Demand, ...]
    places: tuple[Place, ...]
    missing: tuple[str, ...]


def fleet_of(answers: Answers, start: float, end: float) -> Fleet:
    """What the answers to QUERIES tell about the hours that end in this time."""
    demands = tuple(one for resource in UNITS for one in _demands(answers, resource, end))
    known = {one.resource for one in demands}
    return Fleet(
        start=start,
        end=end,
        demands=demands,
        places=tuple(_places(answers, end)),
        missing=tuple(resource for resource in UNITS if resource not in known),
    )


def _demands(answers: Answers, resource: str, end: float) -> Iterator[Demand]:
    used = answers.get(f"{resource}_used", ())
    there = answers.get(f"{resource}_capacity", ())
    vendors = sorted({one.labels.get("vendor", "") for one in (*used, *there)})
    for vendor in vendors:
        mine = [one for one in used if one.labels.get("vendor", "") == vendor]
        capacity = [one for one in there if one.labels.get("vendor", "") == vendor]
        if not mine and not capacity:
            continue
        idle = _sum(capacity, {}, 0.0) if used and resource in SHARED else ()
        total = hourly(_sum(mine, idle), end)
        now = _newest(capacity, end)
        yield _demand((resource, vendor, ALL), total, now)
        spaces = sorted({_namespace(one) for one in mine})
        for space in spaces if spaces != [""] else ():
            own = [one for one in mine if _namespace(one) == space]
            first = min((at for one in own for at in one.values), default=end)
            zeros = {at: 0.0 for one in capacity for at in one.values if at >= first}
            yield _demand((resource, vendor, space or "-"), hourly(_sum(own, zeros), end), None)


def _demand(who: tuple[str, str, str], used: Hourly, capacity: float | None) -> Demand:
    resource, vendor, namespace = who
    return Demand(
        resource=resource, vendor=vendor, namespace=namespace, used=used, capacity=capacity
    )


def _sum(
    found: Iterable[Series],
    base: Mapping[float, float] | Sequence[tuple[float, float]],
    weight: float = 1.0,
) -> Sequence[tuple[float, float]]:
    total = dict(base)
    for one in found:
        for at, value in one.values.items():
            total[at] = total.get(at, 0.0) + weight * value
    return sorted(total.items())


def _newest(found: Iterable[Series], end: float) -> float | None:
    """The capacity of the newest hour that has one, of the last day; GPUs of nodes that are away
    for longer are gone."""
    by_hour = [one for one in _sum(found, {}) if one[0] > end - 86400]
    return by_hour[-1][1] if by_hour else None


def _places(answers: Answers, end: float) -> Iterator[Place]:
    used = {_key(one): one for one in answers.get("gpu_node_used", ())}
    told = bool(used)
    for resource in ("gpu", "partition", "memory"):
        for one in answers.get(f"{resource}_capacity", ()):
            if (capacity := _newest([one], end)) is not None:
                mine = used.get(_key(one))
                taken = _newest([mine], end) or 0.0 if mine else 0.0 if told else None
                yield Place(
                    node=_key(one)[0],
                    vendor=one.labels.get("vendor", ""),
                    model=one.labels.get("model", ""),
                    resource=resource,
                    capacity=capacity,
                    used=taken if resource == "gpu" else None,
                )


def _key(one: Series) -> tuple[str, str, str]:
    labels = one.labels
    node = labels.get("node") or labels.get("instance", "")
    return node, labels.get("vendor", ""), labels.get("model", "")


def _namespace(one: Series) -> str:
    """A scrape without honorLabels has put `exported_` before the pod's."""
    return one.labels.get("exported_namespace") or one.labels.get("namespace", "")
