"""Reads a fleet's hours from a store: what rules have recorded, and the rest from the metrics; and
the signs that GPUs may fail, day by day."""

from deviceplugin.fleet.demand import Fleet, fleet_of
from deviceplugin.fleet.questions import QUERIES, recorded
from deviceplugin.fleet.risk import DAY_S, SIGNS, Document, risk_document
from deviceplugin.metrics.reply import Series, joined
from deviceplugin.metrics.store import Store

HOUR_S = 3600.0


def read_fleet(store: Store, now: float, days: int) -> Fleet:
    """The whole hours of so many days before `now`; raises StoreError."""
    end = now // HOUR_S * HOUR_S
    start = end - (days * 24 - 1) * HOUR_S
    answers = {name: _asked(store, name, (start, end)) for name in QUERIES}
    return fleet_of(answers, start, end)


def read_risk(store: Store, now: float, days: int) -> Document:
    """What the last days tell of GPUs that may fail; raises StoreError."""
    end = now // HOUR_S * HOUR_S
    start = end - (days - 1) * DAY_S
    return risk_document({n: store.range(q, start, end, DAY_S) for n, q in SIGNS.items()}, days)


def _asked(store: Store, name: str, span: tuple[float, float]) -> tuple[Series, ...]:
    """Recorded values cost a store nothing; of the time before there were rules it is asked for
    the query itself."""
    start, end = span
    kept = tuple(
        Series(labels={k: v for k, v in one.labels.items() if k != "__name__"}, values=one.values)
        for one in store.range(recorded(name), start, end, HOUR_S)
    )
    first = min((at for one in kept for at in one.values), default=end + HOUR_S)
    if first <= start:
        return kept
    return joined([store.range(QUERIES[name], start, first - HOUR_S, HOUR_S), kept])
