"""All advice about a history, each with the saving that a replay of it gives; pure."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from msgspec.structs import replace

from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.idling import idling
from deviceplugin.advice.layouts import Demand, demands, layout_saving, layouts
from deviceplugin.advice.power import power_caps, thermal_imbalance
from deviceplugin.advice.replay import Replay
from deviceplugin.advice.savings import Savings
from deviceplugin.advice.sharing import sharing
from deviceplugin.advice.sizing import right_size
from deviceplugin.advice.values import Advice, Change, Saving
from deviceplugin.advice.wishes import Wishes
from deviceplugin.advice.workloads import profile, uses
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.history import History


class Adviser:
    """Advice about one history."""

    def __init__(self, history: History, biller: Biller, wishes: Wishes | None = None) -> None:
        self._history, self._biller = history, biller
        self._wishes = wishes or Wishes()
        self._judge = IdleJudge(history)
        self._uses = uses(history)
        end = history.span[1]
        self._profiles = [profile(key, all_, end) for key, all_ in self._uses.items()]

    def advice(self) -> Sequence[Advice]:
        """What frees most first."""
        found = [one for one in self._all() if self._wishes.has(one)]
        changes = {one.id: one.change for one in found if one.change is not None}
        savings = dict(zip(changes, self._savings([*changes.values()]), strict=True))
        saved = (replace(one, saving=savings.get(one.id)) for one in found)
        return sorted(saved, key=lambda one: (-_worth(one), one.kind, one.subject))

    def saving(self, change: Change) -> Saving:
        """What the history would have cost less with the change, computed by itself."""
        if change.kind == "layout":
            return self._of_layout(change)
        return Replay(self._history, self._biller, self._judge).saving(change)

    def _savings(self, changes: Sequence[Change]) -> Sequence[Saving]:
        held = [change for change in changes if change.kind != "layout"]
        found = iter(Savings(self._history, self._biller, self._judge).of(held))
        return [self._of_layout(one) if one.kind == "layout" else next(found) for one in changes]

    def _of_layout(self, change: Change) -> Saving:
        return layout_saving(change, self._demands, self._history, self._biller)

    @cached_property
    def _demands(self) -> Sequence[Demand]:
        return demands(self._uses, self._profiles, self._history)

    def _all(self) -> Iterator[Advice]:
        consent = self._wishes.consent
        for one in self._profiles:
            yield from right_size(one, consent=consent)
        yield from sharing(self._uses, self._profiles)
        yield from layouts(self._demands)
        yield from idling(self._uses, self._judge, self._wishes.interactive)
        yield from power_caps(self._history)
        yield from thermal_imbalance(self._history)


def _worth(one: Advice) -> float:
    return 0.0 if one.saving is None else one.saving.freed + one.saving.paid_less


def worthwhile(found: Iterable[Advice]) -> Iterator[Advice]:
    """Without advice whose replay saves nothing."""
    for one in found:
        saving = one.saving
        if saving is None or saving.gpu_hours > 0 or saving.paid_less > 0 or (saving.kwh or 0) > 0:
            yield one
