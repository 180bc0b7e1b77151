"""The transaction and its journal: what is held, what fails, what others wrote."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from deviceplugin.errors import VendorError
from deviceplugin.provision.journal import NAME, Journal
from deviceplugin.provision.transaction import Transaction
from deviceplugin.vendor.partitions import PartitionedGpu, Step, Verb


def create(name: str, start: int = 0) -> Step:
    return Step(gpu="G", verb=Verb.CREATE, name=name, number=start)


class Hands:
    """A GPU that is a set of names; those of `broken` cannot be made, of `lying` do not appear."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.broken: set[str] = set()
        self.lying: set[str] = set()
        self.fast: set[str] = set()

    def read(self) -> Sequence[PartitionedGpu]:
        return ()

    def apply(self, step: Step) -> None:
        if step.name in (self.fast if step.verb is Verb.DESTROY else self.broken):
            raise VendorError(f"{step.name} does not work")
        if step.verb is Verb.DESTROY:
            self.there.discard(step.name)
        elif step.name not in self.lying:
            self.there.add(step.name)

    def is_done(self, step: Step) -> bool:
        return (step.name in self.there) == (step.verb is Verb.CREATE)

    def close(self) -> None:
        pass


def transaction(folder: Path, hands: Hands, holders: Sequence[str] = ()) -> Transaction:
    return Transaction(Journal(folder, "boot"), hands, lambda _: holders)


def test_steps_are_done_in_order_and_are_ours(tmp_path: Path) -> None:
    hands = Hands("old")
    steps = [create("old").back(), create("a", 1), create("b", 2)]
    assert transaction(tmp_path, hands).run(steps).state == "done"
    assert hands.there == {"a", "b"}
    assert Journal(tmp_path, "boot").places("G") == {("a", 1), ("b", 2)}


@pytest.mark.parametrize("fault", ["broken", "lying"])
def test_a_step_that_fails_brings_back_what_was(tmp_path: Path, fault: str) -> None:
    hands = Hands("old")
    getattr(hands, fault).add("b")
    steps = [create("old").back(), create("a"), create("b")]
    outcome = transaction(tmp_path, hands).run(steps)
    assert outcome.state == "undone"
    assert "b" in outcome.reason
    assert hands.there == {"old"}
    assert Journal(tmp_path, "boot").record.begun is None


def test_what_can_neither_go_on_nor_back_stays_in_the_journal(tmp_path: Path) -> None:
    hands = Hands()
    hands.broken.add("b")
    hands.fast.add("a")
    assert transaction(tmp_path, hands).run([create("a"), create("b")]).state == "stuck"
    with pytest.raises(VendorError, match="recover comes first"):
        transaction(tmp_path, hands).run([create("c")])
    hands.fast.clear()
    outcome = transaction(tmp_path, hands).recover()
    assert outcome is not None
    assert (outcome.state, hands.there) == ("undone", set())


def test_what_is_held_is_not_taken(tmp_path: Path) -> None:
    hands = Hands("old")
    outcome = transaction(tmp_path, hands, ["pod default/a"]).run([create("old").back()])
    assert outcome.state == "undone"
    assert "held by pod default/a" in outcome.reason
    assert hands.there == {"old"}


def test_nothing_begun_is_nothing_to_recover(tmp_path: Path) -> None:
    assert transaction(tmp_path, Hands()).recover() is None


def test_what_was_made_before_a_boot_is_ours_no_more(tmp_path: Path) -> None:
    transaction(tmp_path, Hands()).run([create("a")])
    assert Journal(tmp_path, "boot").places("G")
    assert not Journal(tmp_path, "another boot").places("G")


DAMAGED = [b"{", b'{"version": 1, "made": {"G": 7}}', b'{"unknown": 1}', b'{"version": 9}']


@pytest.mark.parametrize("content", DAMAGED)
def test_a_journal_that_cannot_be_understood_is_kept_and_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(VendorError, match=NAME):
        Journal(tmp_path, "boot")
    assert (tmp_path / NAME).read_bytes() == content


def test_without_a_journal_that_can_be_written_nothing_is_changed(tmp_path: Path) -> None:
    hands, journal = Hands("old"), Journal(tmp_path / "file" / "below", "boot")
    (tmp_path / "file").write_text("")
    with pytest.raises(VendorError, match="nothing is changed without it"):
        Transaction(journal, hands, lambda _: ()).run([create("old").back()])
    assert hands.there == {"old"}
