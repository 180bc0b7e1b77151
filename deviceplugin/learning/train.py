"""Makes a model of runs that were, strictly by what was known when each began; pure."""

import heapq
import random
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from deviceplugin.learning import expected
from deviceplugin.learning.figures import Figures, Outcome, figures_of
from deviceplugin.learning.killswitch import DAY_S
from deviceplugin.learning.model import Model
from deviceplugin.learning.predict import (
    FEATURES,
    TWICE,
    Learned,
    candidates,
    likelihood,
    predict,
    rolling_median,
)
from deviceplugin.learning.ridge import Row, ridge
from deviceplugin.learning.runs import KEPT, History, Run, log_of

FEW = 30  # runs: below it there is nothing to learn from
LEARNED = 4000  # runs that weights are fitted on, spread evenly over the window
JUDGED = 4000  # runs that a model is judged by, spread as evenly
OF_EACH = 10  # candidates of each of them, by chance
ROUNDS, STEP, DECAY = 4, 0.15, 1e-4
HELD_BACK = 0.2
PATIENCE = 0.03  # by how much the upper end moves with each run that ends
SHRINK = 15.0  # runs, of those that weights are fitted on
Pair = tuple[Sequence[float], bool]


class Settings(Struct, frozen=True, kw_only=True):
    """Which runs count, by `retention_s` before now, and what the model is called."""

    retention_s: float = 30 * 86_400.0
    name: str = "gpu-scheduler"
    version: str = ""


def train(runs: Iterable[Run], now: float, settings: Settings) -> Model | None:
    """The model; None where there are too few runs."""
    kept = [run for run in runs if now - settings.retention_s <= run.end <= now]
    if len(kept) < FEW:
        return None
    kept.sort(key=lambda run: run.start)
    cut = kept[int(len(kept) * (1 - HELD_BACK))].start
    learned = fit(run for run in kept if run.end <= cut)
    judged, last_day, shift = judge(kept, learned, (cut, now - DAY_S))
    if judged is not None:
        learned = fit(kept)
    return Model(
        name=settings.name,
        version=settings.version,
        made=now,
        window=(min(run.start for run in kept), max(run.end for run in kept)),
        runs=len(kept),
        judged=judged,
        last_day=last_day,
        weights=dict(zip(FEATURES, (round(w, 5) for w in learned.votes), strict=True)),
        mean=dict(zip(expected.MEANS, learned.means, strict=True)),
        usual=[round(log, 4) for log in learned.usual],
        shift=round(shift, 4),
        latest=latest(kept),
    )


def latest(runs: Iterable[Run]) -> list[Run]:
    """Those of the runs that predictions can start from: the latest of each group."""
    by_group: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.end):
        by_group.setdefault(run.group, []).append(run)
    return [run for found in by_group.values() for run in found[-KEPT:]]


def replayed(runs: Iterable[Run]) -> Iterator[tuple[Run, History]]:
    """Each run with what was known when it began: those before it that had ended, and those that
    ran."""
    history, ending = History(), list[tuple[float, int, Run]]()
    for number, run in enumerate(sorted(runs, key=lambda run: run.start)):
        while ending and ending[0][0] <= run.start:
            _, ended, other = heapq.heappop(ending)
            history.ended(other.group, str(ended))
            history.add(other)
        yield run, history
        history.started(run.group, str(number), run.start)
        heapq.heappush(ending, (run.end, number, run))


def fit(runs: Iterable[Run]) -> Learned:
    """The weights of the votes and of the mean."""
    known = list(runs)
    usual = expected.usual([log_of(run.seconds) for run in known])
    chance = random.Random(1)  # noqa: S311  # the same runs make the same model
    pairs, rows = list[Pair](), list[Row]()
    every = max(1, len(known) // LEARNED)
    for number, (run, history) in enumerate(replayed(known)):
        if number % every == 0:
            pairs.extend(_pairs(run, history, chance))
            found = expected.features(history, run.group, run.start, usual)
            rows.append((found, log_of(run.seconds)))
    return Learned(votes=_votes(pairs, chance), means=_means(rows), usual=usual)


def _means(rows: Sequence[Row]) -> list[expected.Weight]:
    """Ridge regression of ln seconds."""
    known = expected.ranges([found for found, _ in rows])
    within = [
        ([min(high, max(low, x)) for x, (low, high) in zip(found, known, strict=True)], was)
        for found, was in rows
    ]
    return [
        expected.Weight(round(weight, 5), round(low, 5), round(high, 5))
        for weight, (low, high) in zip(ridge(within, SHRINK), known, strict=True)
    ]


def _votes(pairs: list[Pair], chance: random.Random) -> list[float]:
    """Logistic regression of whether a candidate is within a factor of two, by gradient steps that
    grow smaller for each weight with what it was moved (Adagrad)."""
    weights, moved = [0.0] * len(FEATURES), [1e-6] * len(FEATURES)
    for _ in range(ROUNDS):
        chance.shuffle(pairs)
        for features, hit in pairs:
            error = likelihood(weights, features) - hit
            for place, feature in enumerate(features):
                gradient = error * feature + DECAY * weights[place]
                moved[place] += gradient * gradient
                weights[place] -= STEP * gradient / moved[place] ** 0.5
    return weights


def _pairs(run: Run, history: History, chance: random.Random) -> Iterator[Pair]:
    found = candidates(history, run.group, run.start)
    for one in chance.sample(found, min(OF_EACH, len(found))):
        yield one.features, abs(one.past.log - log_of(run.seconds)) < TWICE


class Upper:
    """Raises the upper end by what was above it, and lowers it by what was not, so that nine of
    ten stay below whatever the runs do."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def learn(self, was: float, upper: float) -> None:
        """A run has ended that was predicted to stay below `upper`."""
        self.shift += PATIENCE * (0.9 if was > upper else -0.1)


def judge(
    runs: Sequence[Run], learned: Learned, since: tuple[float, float], most: int = JUDGED
) -> tuple[Figures | None, Figures | None, float]:
    """How the runs that began after the first moment would have been predicted, and those of them
    that ended after the second; and the upper end's shift after them. About `most` are asked."""
    every = max(1, sum(run.start >= since[0] for run in runs) // most)
    upper, waiting = Upper(), list[tuple[float, float, float]]()
    outcomes, late = list[Outcome](), list[Outcome]()
    for number, (run, history) in enumerate(replayed(runs)):
        while waiting and waiting[0][0] <= run.start:
            _, was, above = heapq.heappop(waiting)
            upper.learn(was, above)
        if run.start < since[0] or number % every:
            continue
        found = predict(history, run.group, run.start, learned, upper.shift)
        if found is not None:
            was, rolling = log_of(run.seconds), rolling_median(history, run.group)
            heapq.heappush(waiting, (run.end, was, found.upper))
            one = Outcome(was, found.log, found.upper, found.log if rolling is None else rolling)
            outcomes.append(one)
            late += [one] if run.end >= since[1] else []
    return figures_of(outcomes), figures_of(late), upper.shift
