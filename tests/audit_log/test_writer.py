"""Records reach the disk by a thread of their own; what cannot is counted and told."""

from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from deviceplugin.audit.chain import Chain
from deviceplugin.audit.record import Event
from deviceplugin.audit.verify import verify_log
from deviceplugin.audit.writer import Counts, Writer
from tests.audit_log.logs import NOON, chain_in, event, kinds, records

FULL = 1 << 60  # bytes that no disk has free


def writer_of(chain: Chain, limit: int = 100) -> Writer:
    return Writer(chain, lambda: NOON, Counts(), limit)


def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    writer = writer_of(chain_in(tmp_path))
    writer.start()
    for number in range(50):
        writer.put(partial(event, number))
    writer.close()
    report = verify_log(tmp_path)
    assert (report.records, report.problems) == (50, [])
    assert writer.counts == Counts(recorded=50)


def test_a_queue_that_is_full_loses_the_newest_and_the_log_says_how_many(tmp_path: Path) -> None:
    writer = writer_of(chain_in(tmp_path), limit=3)
    for number in range(10):
        writer.put(partial(event, number))
    writer.turn()
    assert writer.counts.lost == 7
    assert kinds(tmp_path) == ["gap", *["allocation.granted"] * 3]
    assert records(tmp_path)[0].data["lost"] == 7
    assert (verify_log(tmp_path).lost, verify_log(tmp_path).problems) == (7, [])
    writer.turn()
    assert kinds(tmp_path).count("gap") == 1


def test_a_disk_that_is_full_is_told_once_and_nothing_is_lost_that_can_wait(
    tmp_path: Path,
) -> None:
    chain = chain_in(tmp_path, spare_bytes=FULL)
    writer = writer_of(chain)
    with capture_logs() as logs:
        for number in range(3):
            writer.put(partial(event, number))
            writer.turn()
        assert "disk" in writer.failing
        chain.spare_bytes = 0  # there is room again
        writer.turn()
    assert [log["event"] for log in logs] == ["audit_not_written", "audit_written_again"]
    assert writer.failing == ""
    assert len(records(tmp_path)) == 3
    assert verify_log(tmp_path).problems == []


def test_a_disk_that_stays_full_costs_what_comes_and_never_who_asks(tmp_path: Path) -> None:
    chain = chain_in(tmp_path, spare_bytes=FULL)
    writer = writer_of(chain, limit=5)
    for number in range(20):
        writer.put(partial(event, number))
    writer.turn()
    for number in range(20):
        writer.put(partial(event, number))
    chain.spare_bytes = 0  # there is room again
    writer.turn()
    report = verify_log(tmp_path)
    assert report.problems == []
    assert report.lost == writer.counts.lost == 30
    assert kinds(tmp_path).count("allocation.granted") == 10


def test_a_record_that_cannot_be_made_costs_itself(tmp_path: Path) -> None:
    def broken() -> Event:
        raise RuntimeError("a plug-in")

    writer = writer_of(chain_in(tmp_path))
    writer.put(broken)
    writer.put(partial(event, 1))
    with capture_logs() as logs:
        writer.turn()
    assert [log["event"] for log in logs] == ["audit_record_failed"]
    assert "allocation.granted" in kinds(tmp_path)
    assert writer.counts.lost == 1
