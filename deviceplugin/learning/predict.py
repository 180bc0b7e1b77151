"""How long a run will be: each run that was is asked how much the new one will be like it; pure.

A run's length is rarely near the mean of those before it, but often near one of them. So each of
the latest runs of the group and of the namespace gets a probability that the new one is within a
factor of two of it, by a logistic function of few features, and the prediction is near the length
that most of them agree on. How far from the expected mean that may be is what a miss is worth: the
square of the distance counts PULL against the part that agrees.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from msgspec import Struct

from deviceplugin.learning import expected
from deviceplugin.learning.runs import Group, History, Past

TWICE = math.log(2)
FEATURES = (
    "bias",
    "namespace",
    "rank by end",
    "rank by start",
    "age of start",
    "age of end",
    "length",
    "length squared",
    "rank in the group",
    "shorter than one that runs",
    "runs of the group now",
    "agreement in the group",
    "agreement in the namespace",
    "agreement of the latest four",
    "agreement of both",
)
POWER = 4  # how much the likeliest count for more
WIDTH = 1.2  # in ln seconds: how near lengths agree
VOTERS = 20  # the likeliest of the candidates
UPPER = 0.9
PULL = 0.15  # per ln second squared; chosen on jobs before those that it is judged by
NEAR = 24  # runs of the group, and of the namespace, that are asked
_LATEST = 4
_FEW = 0.05  # agreement below it is none


class Learned(Struct, frozen=True, kw_only=True):
    """What is fitted: weights of the votes and of the mean, in the order of FEATURES and of
    expected.MEANS, and the usual lengths. Without these there are votes alone."""

    votes: Sequence[float]
    means: Sequence[expected.Weight] = ()
    usual: Sequence[float] = ()


class Candidate(Struct, frozen=True):
    """A run that was, with its features."""

    past: Past
    features: Sequence[float]


class Prediction(Struct, frozen=True, kw_only=True):
    """ln of the seconds: what is expected, the upper end of nine of ten, and by how many runs; the
    memory and utilisation that nine of ten runs of the group stayed below, None if nobody knows."""

    log: float
    upper: float
    runs: int
    peak_mib: float | None = None
    busy_ratio: float | None = None

    @property
    def seconds(self) -> float:
        """What is expected."""
        return math.exp(min(self.log, 30.0))


def candidates(history: History, group: Group, now: float) -> list[Candidate]:
    """The runs that the new one may be like."""
    own, near = history.past(group)[:NEAR], history.past(group[:1])[:NEAR]
    running = [now - start for start in history.running(group)]
    longest, count = max(running, default=0.0), math.log1p(len(running))
    logs = [sorted(one.log for one in own), sorted(one.log for one in near)]
    latest = sorted(one.log for one in own[:_LATEST])
    found = []
    for source, past in enumerate((own, near)):
        by_start = sorted(range(len(past)), key=lambda place: -past[place].start)
        rank = {place: number for number, place in enumerate(by_start)}
        for place, one in enumerate(past):
            agree = (_near(logs[0], one.log), _near(logs[1], one.log), _near(latest, one.log))
            ranks = (math.log1p(place), math.log1p(rank[place]))
            shorter = float(math.exp(one.log) < longest)
            features = _features(source, ranks, (one, now), (shorter, count), agree)
            found.append(Candidate(one, features))
    return found


def _features(
    source: int,
    ranks: tuple[float, float],
    of: tuple[Past, float],
    running: tuple[float, float],
    agree: tuple[float, float, float],
) -> Sequence[float]:
    one, now = of
    length = one.log / 10
    return (
        1.0,
        float(source),
        *ranks,
        math.log1p(max(0.0, now - one.start)) / 10,
        math.log1p(max(0.0, now - one.end)) / 10,
        length,
        length * length,
        0.0 if source else ranks[0],
        *running,
        *agree,
        agree[0] * agree[2],
    )


def _near(logs: Sequence[float], log: float) -> float:
    """The part of them that is within a factor of two."""
    if not logs:
        return 0.0
    return (bisect_right(logs, log + TWICE) - bisect_left(logs, log - TWICE)) / len(logs)


def likelihood(weights: Sequence[float], features: Sequence[float]) -> float:
    """The probability that the new run is within a factor of two of the candidate."""
    total = sum(w * x for w, x in zip(weights, features, strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def predict(
    history: History, group: Group, now: float, learned: Learned, shift: float
) -> Prediction | None:
    """What a run of the group that begins now will be; None without any run of its namespace."""
    weights = learned.votes
    voters = [(likelihood(weights, c.features), c.past) for c in candidates(history, group, now)]
    if not voters:
        return None
    own = history.past(group)[:NEAR]
    upper = _quantile([(one.log, chance) for chance, one in voters], UPPER)
    likeliest = sorted(voters, key=lambda voter: -voter[0])[:VOTERS]
    mean = None
    if learned.usual:
        mean = expected.mean(learned.means, expected.features(history, group, now, learned.usual))
    log = _agreed(likeliest, mean)
    return Prediction(
        log=log,
        upper=max(log, upper + shift),
        runs=len(own),
        peak_mib=_most(one.peak_mib for one in own),
        busy_ratio=_most(one.busy_ratio for one in own),
    )


def _agreed(voters: Sequence[tuple[float, Past]], mean: float | None) -> float:
    """The length around which most of the voters' weight is, not too far from the mean."""
    total = math.fsum(chance**POWER for chance, _ in voters)
    weighed = [(chance**POWER / total, one.log) for chance, one in voters] if total else []
    lengths = [log for _, log in weighed] + ([] if mean is None else [mean])
    best, at, near = -math.inf, 0.0, 0.0
    for log in lengths:
        agree = [(w * max(0.0, 1 - abs(other - log) / WIDTH), other) for w, other in weighed]
        part = math.fsum(w for w, _ in agree)
        worth = part if mean is None else part - PULL * (log - mean) ** 2
        if worth > best:
            centre = math.fsum(w * other for w, other in agree) / part if part > _FEW else log
            best, at, near = worth, centre, part
    if mean is None or near <= _FEW:
        return at
    return (near * at + PULL * mean) / (near + PULL)


def _quantile(weighed: Sequence[tuple[float, float]], level: float) -> float:
    due, so_far = level * sum(w for _, w in weighed), 0.0
    for value, weight in sorted(weighed):
        so_far += weight
        if so_far >= due:
            return value
    return max(value for value, _ in weighed)


def _most(values: Iterator[float | None]) -> float | None:
    known = [(value, 1.0) for value in values if value is not None]
    return _quantile(known, UPPER) if known else None


def rolling_median(history: History, group: Group, last: int = 10) -> float | None:
    """ln seconds by the rule that needs no model: the median of the latest runs of the group."""
    logs = sorted(one.log for one in history.past(group)[:last])
    if not logs:
        return None
    middle = len(logs) // 2
    return logs[middle] if len(logs) % 2 else (logs[middle - 1] + logs[middle]) / 2
