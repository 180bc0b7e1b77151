"""The partitions that would have served a history with the fewest GPUs; pure.

Each hour of the history is placed again: every container in the smallest partition that has the
memory and the compute that it needs, and whoever's need is not known on a whole GPU.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.advice.products import Cut, Slot, cuts_of
from deviceplugin.advice.sizing import least_bytes, unknown
from deviceplugin.advice.values import Advice, Change, Saving
from deviceplugin.advice.workloads import Key, Profile, Use
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.history import History

Kind = tuple[str, str, int]  # vendor, model, memory


class Need(Struct, frozen=True, kw_only=True, order=True):
    """What one container needs of a GPU; None: the whole."""

    memory_bytes: float
    compute: float


class Hour(Struct, frozen=True, kw_only=True):
    """Hours in which so many GPUs were held, and what their holders needed; `wholes` are held
    by somebody whose need is not known."""

    hours: float
    held: int
    wholes: int
    needs: tuple[Need, ...]


class Demand(Struct, frozen=True, kw_only=True):
    """The hours of all GPUs of one kind."""

    kind: Kind
    hours: tuple[Hour, ...]


def demands(
    found: Mapping[Key, Sequence[Use]], profiles: Sequence[Profile], history: History
) -> Sequence[Demand]:
    """What GPUs of each kind were held for, hour by hour."""
    needs = {one.key: _need(one) for one in profiles}
    at: dict[Kind, dict[float, list[tuple[Use, Need | None]]]] = {}
    for key, all_ in found.items():
        for use in all_:
            root = history.devices.get(history.root_of(use.device.id), use.device)
            if root.memory_bytes and not root.profile:
                kind = (root.vendor, root.model, root.memory_bytes)
                at.setdefault(kind, {}).setdefault(use.cell.start, []).append((use, needs[key]))
    return [
        Demand(kind=kind, hours=_alike(_hour(all_, history) for all_ in hours.values()))
        for kind, hours in sorted(at.items())
    ]


def _alike(found: Iterable[Hour]) -> tuple[Hour, ...]:
    """Hours in which the same was needed, as one: what is needed changes seldom."""
    sums: dict[Hour, float] = {}
    for hour in found:
        kind = replace(hour, hours=0.0)
        sums[kind] = sums.get(kind, 0.0) + hour.hours
    return tuple(replace(hour, hours=hours) for hour, hours in sums.items())


def _need(one: Profile) -> Need | None:
    """None where it is not known: a whole GPU is kept for it. `active` of a share or a partition
    is that of the whole device only if the device is a GPU."""
    if unknown(one) or one.key.profile or one.active is None:
        return None
    return Need(memory_bytes=least_bytes(one, consent=False), compute=one.active)


def _hour(all_: Sequence[tuple[Use, Need | None]], history: History) -> Hour:
    needs = [need for _, need in all_ if need is not None]
    return Hour(
        hours=max(use.cell.seconds for use, _ in all_) / 3600,
        held=len({history.root_of(use.device.id) for use, _ in all_}),
        wholes=len({history.root_of(use.device.id) for use, need in all_ if need is None}),
        needs=tuple(sorted(needs, reverse=True)),
    )


def gpus_needed(hour: Hour, slots: Sequence[Slot]) -> int:
    """GPUs cut like that which serve the hour, and whole ones for what fits in no partition."""
    return _Served(slots).gpus(hour)


class _Served:
    """GPUs that are all cut alike."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._kinds = sorted(set(slots))
        self._each = [slots.count(kind) for kind in self._kinds]
        self._fitting: dict[Need, Sequence[int]] = {}

    def gpus(self, hour: Hour) -> int:
        """How many serve the hour: each need in the smallest partition that is left for it."""
        free = [0] * len(self._kinds)
        cut = wholes = 0
        for need in hour.needs:
            fitting = self._fits(need)
            for number in fitting:
                if free[number]:
                    free[number] -= 1
                    break
            else:
                if not fitting:
                    wholes += 1
                    continue
                free = [left + more for left, more in zip(free, self._each, strict=True)]
                free[fitting[0]] -= 1
                cut += 1
        return hour.wholes + wholes + cut

    def _fits(self, need: Need) -> Sequence[int]:
        """The kinds of partitions in which there is room for it; many hours have the same need."""
        if (found := self._fitting.get(need)) is None:
            pairs = enumerate(self._kinds)
            found = [n for n, slot in pairs if _fits(need, slot)]
            self._fitting[need] = found
        return found


def _fits(need: Need, slot: Slot) -> bool:
    return need.memory_bytes <= slot.memory_bytes and need.compute <= slot.compute


def layouts(found: Sequence[Demand]) -> Iterator[Advice]:
    """The best cut of each kind of GPU, where it would have needed fewer GPUs at the peak."""
    for demand in found:
        cuts = cuts_of(*demand.kind)
        if not cuts or not demand.hours:
            continue
        best = min(cuts, key=lambda cut: (*_cost(demand, cut), str(cut.layout)))
        peak, hours = _cost(demand, best)
        held = max(hour.held for hour in demand.hours)
        if peak < held:
            yield _advice(demand, best, (peak, hours))


def _cost(demand: Demand, cut: Cut) -> tuple[int, float]:
    """GPUs at the peak, and GPU hours."""
    served = _Served(cut.slots)
    needed = [(served.gpus(hour), hour.hours) for hour in demand.hours]
    return max(n for n, _ in needed), sum(n * hours for n, hours in needed)


def _advice(demand: Demand, cut: Cut, found: tuple[int, float]) -> Advice:
    vendor, model, _ = demand.kind
    layout = msgspec.to_builtins(cut.layout)
    kept = {name: layout[name] for name in ("mig", "compute") if layout.get(name)}
    held = max(hour.held for hour in demand.hours)
    return Advice(
        kind="layout",
        subject=f"{vendor} {model}",
        text=(
            f"{found[0]} GPUs cut into {_words(kept)} would have served what {held} did at the"
            " peak; whoever's need is not known keeps a whole GPU"
        ),
        evidence={
            "gpus_held_at_peak": held,
            "gpus_needed_at_peak": found[0],
            "gpu_hours_held": round(sum(hour.held * hour.hours for hour in demand.hours), 1),
            "gpu_hours_needed": round(found[1], 1),
            "hours_replayed": round(sum(hour.hours for hour in demand.hours), 1),
        },
        change=Change(kind="layout", model=model, layout=kept),
        patch_of="configuration",
        patch={"partitions": [{"select": {"vendor": vendor, "product": model}, **kept}]},
    )


def _words(layout: Mapping[str, object]) -> str:
    mig = layout.get("mig")
    if isinstance(mig, Mapping):
        return " + ".join(f"{n} x {name}" for name, n in mig.items())
    return str(layout["compute"])


def layout_saving(
    change: Change, found: Sequence[Demand], history: History, biller: Biller
) -> Saving:
    """The GPU hours that the cut needs less than were held, at the mean price of such a GPU."""
    hours = 0.0
    for demand in found:
        for cut in cuts_of(*demand.kind) if demand.kind[1] == change.model else ():
            layout = msgspec.to_builtins(cut.layout)
            if {n: layout[n] for n in ("mig", "compute") if layout.get(n)} == change.layout:
                hours += sum(hour.held * hour.hours for hour in demand.hours)
                hours -= _cost(demand, cut)[1]
    return Saving.of(hours, hours * _mean_price(change.model, history, biller), 0.0, None)


def _mean_price(model: str, history: History, biller: Biller) -> float:
    """What an hour of a GPU of the model cost, over all of the history."""
    of_model = [c for c in history.cells if history.devices[c.device].model == model]
    found = (biller.charge(*one) for one in biller.pieces(history.with_cells(of_model)))
    pairs = [(one.piece.hours, one.amount) for one in found if one is not None]
    hours = math.fsum(hours for hours, _ in pairs)
    return math.fsum(amount for _, amount in pairs) / hours if hours else 0.0
