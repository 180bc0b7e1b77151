"""What each workload had and used, over the whole history; pure."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.advice.histogram import Histogram
from deviceplugin.advice.values import workload_of
from deviceplugin.cost.history import Cell, Device, Grant, History

DAY_S = 86400.0
WEEK_S = 7 * DAY_S
PERCENTILE = 0.98
MARGIN = 1.1
# Memory that is level and near the whole although the activity varies is what a framework takes
# beforehand: JAX takes 75 %, vLLM 90 %, TensorFlow nearly all.
LEVEL, TAKEN, HOURS = 0.02, 0.7, 24


class Key(Struct, frozen=True, kw_only=True, order=True):
    """A container of a workload on GPUs of one model, or on their partitions of one profile."""

    namespace: str
    workload: str
    container: str
    vendor: str
    model: str
    profile: str = ""

    @property
    def text(self) -> str:
        """As people are shown it."""
        container = f" ({self.container})" if self.container else ""
        device = f"{self.model} {self.profile}".strip()
        return f"{self.namespace}/{self.workload}{container} on {device}"


class Use(Struct, frozen=True, kw_only=True):
    """One container in one cell."""

    cell: Cell
    device: Device
    grant: Grant


class Profile(Struct, frozen=True, kw_only=True):
    """What a workload needs, as its history shows. Bytes and ratios are None where they were not
    measured; `days` is how long the history of its memory is."""

    key: Key
    days: float
    share: float
    device_bytes: int | None
    wanted_bytes: float | None
    week_peak_bytes: float | None
    active: float | None
    preallocates: bool
    hours: float


def uses(history: History) -> Mapping[Key, Sequence[Use]]:
    """What each workload had, in time, sorted by workload."""
    found: dict[Key, list[Use]] = {}
    for cell in sorted(history.cells, key=lambda cell: cell.start):
        device = history.devices[cell.device]
        for grant in cell.grants:
            key = Key(
                namespace=grant.namespace,
                workload=workload_of(grant),
                container=grant.container,
                vendor=device.vendor,
                model=device.model,
                profile=device.profile,
            )
            found.setdefault(key, []).append(Use(cell=cell, device=device, grant=grant))
    return dict(sorted(found.items()))


def profile(key: Key, all_: Sequence[Use], end: float) -> Profile:
    """What the uses of a workload come to; `end` is when the history ends."""
    measured = [one for one in all_ if one.grant.memory_bytes is not None]
    week = [one.grant.memory_bytes or 0 for one in measured if one.cell.end > end - WEEK_S]
    sizes = {one.device.memory_bytes for one in all_}
    first = min((one.cell.start for one in measured), default=end)
    return Profile(
        key=key,
        days=(end - first) / DAY_S,
        share=max(one.grant.share for one in all_),
        device_bytes=sizes.pop() if len(sizes) == 1 else None,
        wanted_bytes=_wanted(measured),
        week_peak_bytes=max(week, default=None),
        active=percentile_95(all_),
        preallocates=_preallocates(measured),
        hours=sum(one.cell.seconds for one in all_) / 3600,
    )


def _wanted(measured: Sequence[Use]) -> float | None:
    """P98 of the peaks of days, and 10 %."""
    if not measured:
        return None
    histogram, first = Histogram(), measured[0].cell.start
    for day, peak in _peaks(measured, first):
        histogram.add(peak, day)
    return histogram.percentile(PERCENTILE) * MARGIN


def _peaks(measured: Sequence[Use], first: float) -> Iterator[tuple[float, float]]:
    """One peak a day."""
    found: dict[float, float] = {}
    for one in measured:
        day = (one.cell.start - first) // DAY_S
        found[day] = max(found.get(day, 0.0), one.grant.memory_bytes or 0)
    yield from found.items()


def percentile_95(all_: Sequence[Use]) -> float | None:
    """P95 of the activity by time; None unless all of it was measured."""
    pairs = sorted(
        (one.grant.active, one.cell.seconds) for one in all_ if one.grant.active is not None
    )
    if len(pairs) < len(all_) or not pairs:
        return None
    left = 0.95 * sum(seconds for _, seconds in pairs)
    for active, seconds in pairs:
        left -= seconds
        if left <= 0:
            return active
    return pairs[-1][0]


def _preallocates(measured: Sequence[Use]) -> bool:
    sizes = [one.grant.memory_bytes or 0 for one in measured]
    granted = [(one.device.memory_bytes or 0) * one.grant.share for one in measured]
    if len(sizes) < HOURS or not all(granted):
        return False
    parts = [size / most for size, most in zip(sizes, granted, strict=True)]
    return min(parts) >= TAKEN and max(parts) - min(parts) <= LEVEL
