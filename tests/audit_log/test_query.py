"""Which records a question takes."""

from pathlib import Path

import pytest

from deviceplugin.audit.query import Query, parse_time, records_of
from deviceplugin.audit.record import Event, time_text
from tests.audit_log.logs import DAY_S, NOON, chain_in


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record a day, of several kinds."""
    directory = tmp_path_factory.mktemp("log")
    chain = chain_in(directory)
    chain.open(NOON)
    who: dict[str, object] = {"namespace": "prod", "pod": "train", "container": "main"}
    happened: list[tuple[str, dict[str, object]]] = [
        ("allocation.granted", {"ids": ["a::0"], "devices": ["a"]}),
        ("allocation.held", {"ids": ["a::0"], **who}),
        ("health.fault", {"device": "a"}),
        ("allocation.held", {"ids": ["b"], **who, "namespace": "dev"}),
    ]
    for day, (kind, data) in enumerate(happened):
        chain.append([Event(kind=kind, at=NOON + day * DAY_S, subject="x/gpu", data=data)])
    chain.sync()
    return directory


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(kind="allocation"), 3),
        (Query(kind="allocation.held"), 2),
        (Query(kind="alloc"), 0),
        (Query(pod="train"), 2),
        (Query(pod="prod/train"), 1),
        (Query(device="a"), 2),
        (Query(device="a::0"), 2),
        (Query(kind="allocation", device="x/gpu"), 3),
        (Query(kind="allocation", since=time_text(NOON + DAY_S)), 2),
        (Query(kind="allocation", until=time_text(NOON + DAY_S)), 1),
        (Query(since=time_text(NOON + 9 * DAY_S)), 0),
    ],
)
def test_a_question_takes_what_it_asks_for(log: Path, query: Query, wanted: int) -> None:
    assert len(list(records_of(log, query))) == wanted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:05.5+02:00", "2026-01-31T10:00:05.500000Z"),
    ],
)
def test_a_time_is_read_as_records_have_it(text: str, found: str) -> None:
    assert parse_time(text) == found


@pytest.mark.parametrize("text", ["now", "2026", "2026-13-01", "20260131", "2026-01-31 12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_time(text)
