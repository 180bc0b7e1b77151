"""All advice about a history, each with the saving that a replay of it gives; pure."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.idling import idling
from deviceplugin.advice.layouts import Demand, demands, layout_saving, layouts
from deviceplugin.advice.power import power_caps, thermal_imbalance
from deviceplugin.advice.replay import Replay
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
        self._replay = Replay(history, biller, self._judge)
        self._uses = uses(history)
        end = history.span[1]
        self._profiles = [profile(key, all_, end) for key, all_ in self._uses.items()]

    def advice(self) -> Sequence[Advice]:
        """What frees most first."""
        found = (self._saved(one) for one in self._all() if self._wishes.has(one))
        return sorted(found, key=lambda one: (-_worth(one), one.kind, one.subject))

    def saving(self, change: Change) -> Saving:
        """What the history would have cost less with the change."""
        if change.kind == "layout":
            return layout_saving(change, self._demands(), self._history, self._biller)
        return self._replay.saving(change)

    def _demands(self) -> Sequence[Demand]:
        return demands(self._uses, self._profiles, self._history)

    def _all(self) -> Iterator[Advice]:
        consent = self._wishes.consent
        for one in self._profiles:
            yield from right_size(one, consent=consent)
        yield from sharing(self._uses, self._profiles)
        yield from layouts(self._demands())
        yield from idling(self._uses, self._judge, self._wishes.interactive)
        yield from power_caps(self._history)
        yield from thermal_imbalance(self._history)

    def _saved(self, one: Advice) -> Advice:
        return one if one.change is None else replace(one, saving=self.saving(one.change))


def _worth(one: Advice) -> float:
    return 0.0 if one.saving is None else one.saving.freed + one.saving.paid_less


def worthwhile(found: Iterable[Advice]) -> Iterator[Advice]:
    """Without advice whose replay saves nothing."""
    for one in found:
        saving = one.saving
        if saving is None or saving.gpu_hours > 0 or saving.paid_less > 0 or (saving.kwh or 0) > 0:
            yield one
