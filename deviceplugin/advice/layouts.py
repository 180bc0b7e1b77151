"""The partitions that would have served a history with the fewest GPUs; pure.

Each hour of the history is placed again: every container in the smallest partition that has the
memory and the compute that it needs, and whoever's need is not known on a whole GPU.
"""

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
    kinds = sorted(set(slots))
    each = [slots.count(kind) for kind in kinds]
    free = [0] * len(kinds)
    cut = wholes = 0
    for need in hour.needs:
        fitting = [number for number, kind in enumerate(kinds) if _fits(need, kind)]
        if not fitting:
            wholes += 1
            continue
        if not any(free[number] for number in fitting):
            free = [left + more for left, more in zip(free, each, strict=True)]
            cut += 1
        free[next(number for number in fitting if free[number])] -= 1
    return hour.wholes + wholes + cut


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
    needed = [(gpus_needed(hour, cut.slots), hour.hours) for hour in demand.hours]
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
    of_model = [c for c in history.cells if history.devices[c.device].model == change.model]
    bill = biller.bill(history.with_cells(of_model))
    billed = sum(line.gpu_hours for line in bill.lines)
    price = bill.total / billed if billed else 0.0
    return Saving(gpu_hours=round(hours, 3), freed=round(hours * price, 2), paid_less=0.0)
