"""Which runs there were, and what is known of them."""

import pytest

from deviceplugin.learning.nodes import Measured
from deviceplugin.model import DeviceID
from deviceplugin.runs.book import MAX_HOLDS, Book, Hold
from deviceplugin.runs.use import Use
from deviceplugin.telemetry.model import ProcessUse
from tests.runs.made import NOW, held, owner, view


def begun() -> Book:
    """A book that has looked once, at nothing."""
    book = Book()
    book.look([], NOW)
    return book


def only(ended: list[Measured]) -> Measured:
    (one,) = ended
    return one


def test_a_run_is_from_the_look_that_saw_it_first_to_the_one_that_did_not_see_it_any_more() -> None:
    book = begun()
    assert book.look(held("train-x7k2p"), NOW + 5) == (True, [])
    assert book.look(held("train-x7k2p"), NOW + 10) == (False, [])
    changed, ended = book.look([], NOW + 65)
    run = only(ended).run
    assert changed
    assert (run.group, run.start, run.seconds) == (("ml", "train", "main"), NOW + 5, 60.0)
    assert (run.peak_mib, run.busy_ratio, only(ended).mean_ratio) == (None, None, None)


def test_a_container_with_several_devices_is_one_run() -> None:
    book = begun()
    book.look([*held("a"), *held("a", device="GPU-1")], NOW)
    book.look(held("a"), NOW + 1)
    assert len(book.look([], NOW + 2)[1]) == 1


def test_what_began_before_anybody_looked_is_no_run_as_its_length_is_not_known() -> None:
    book = Book()
    book.look(held("a"), NOW)
    assert book.look([], NOW + 50) == (True, [])


def test_a_run_goes_on_over_a_restart_and_keeps_what_it_used() -> None:
    use = Use(peak_mib=7.0)
    book = Book([Hold(who=owner("a"), start=NOW - 100, seen=NOW - 30, use=use)])
    assert book.look(held("a"), NOW)[1] == []
    run = only(book.look([], NOW + 5)[1]).run
    assert (run.seconds, run.peak_mib) == (105.0, 7.0)


def test_what_ended_while_nobody_looked_ended_when_it_was_last_seen() -> None:
    book = Book([Hold(who=owner("a"), start=NOW - 100, seen=NOW - 30)])
    assert only(book.look([], NOW)[1]).run.seconds == 70.0


def test_only_so_many_are_followed() -> None:
    book = begun()
    book.look([one for n in range(MAX_HOLDS + 9) for one in held(f"p{n:05}")], NOW)
    assert len(book.holds) == MAX_HOLDS


def test_memory_is_that_of_the_fullest_device_and_utilisation_the_mean_of_all() -> None:
    book = begun()
    book.look([*held("a"), *held("a", device="GPU-1")], NOW)
    for ratio in (0.2, 1.0):
        book.measure(view(("GPU-0", 100, ratio, ("a",)), ("GPU-1", 300, 0.0, ("a",))))
    one = only(book.look([], NOW + 9)[1])
    assert one.run.peak_mib == 300
    assert one.mean_ratio == pytest.approx(0.3)


def test_nine_of_ten_rounds_were_below_the_busy_ratio() -> None:
    use = Use()
    for _ in range(90):
        use.add(None, 0.31)
    for _ in range(10):
        use.add(None, 0.99)
    assert use.busy_ratio == 0.35
    use.add(None, 1.0)
    assert use.busy_ratio == 1.0


def test_of_a_device_that_several_hold_each_has_what_its_processes_have() -> None:
    book = begun()
    book.look(held("a", "b"), NOW)
    shared = ("GPU-0", 900, 0.9, ("a", "b"))
    book.measure(view(shared))
    own = ProcessUse(
        pid=1,
        device=DeviceID("GPU-0"),
        memory_bytes=5 << 20,
        utilization_ratio=0.25,
        owner=owner("a"),
    )
    book.measure(view(shared, processes=(own, own)))
    uses = {hold.who.pod: hold.use for hold in book.holds.values()}
    assert (uses["a"].peak_mib, uses["a"].mean_ratio) == (10, 0.5)
    assert (uses["b"].peak_mib, uses["b"].mean_ratio) == (None, None)


def test_a_device_that_does_not_answer_or_tell_says_nothing_of_its_container() -> None:
    book = begun()
    book.look(held("a"), NOW)
    book.measure(view(("GPU-0", 900, 0.9, ("a",)), up=False))
    book.measure(view(("GPU-0", None, None, ("a",))))
    book.measure(view())
    (hold,) = book.holds.values()
    assert (hold.use.peak_mib, hold.use.mean_ratio, hold.use.busy_ratio) == (None, None, None)
