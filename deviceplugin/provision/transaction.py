"""Makes a plan true, whole or not at all: intent, step, verification; what fails is taken back.

A process that ends anywhere leaves its journal, by which the next one finishes or takes back.
"""

from collections.abc import Callable, Sequence

from deviceplugin.errors import VendorError
from deviceplugin.provision.journal import Begun, Journal
from deviceplugin.provision.values import Outcome
from deviceplugin.vendor.partitions import Partitioner, Step

Holders = Callable[[Step], Sequence[str]]


class Transaction:
    """One change at a time. `holders` tells who holds what a step would take; it is asked right
    before each step."""

    def __init__(self, journal: Journal, partitioner: Partitioner, holders: Holders) -> None:
        self._journal, self._partitioner, self._holders = journal, partitioner, holders

    def run(self, steps: Sequence[Step]) -> Outcome:
        """Do the steps, none of which was begun; raises VendorError without a journal that can be
        written, and where an earlier change is not over."""
        if self._journal.record.begun is not None:
            raise VendorError("an earlier change is not over: recover comes first")
        self._journal.begin(tuple(steps))
        return self._forward(0)

    def recover(self) -> Outcome | None:
        """Finish, or take back, what an ended process began; None where there is nothing."""
        begun = self._journal.record.begun
        if begun is None:
            return None
        return self._back(begun.at, begun.reason) if begun.back else self._forward(begun.at)

    @property
    def _begun(self) -> Begun:
        begun = self._journal.record.begun
        if begun is None:
            raise VendorError("no change was begun")
        return begun

    def _forward(self, first: int) -> Outcome:
        steps = self._begun.steps
        for at in range(first, len(steps)):
            self._journal.note(at)
            try:
                self._do(steps[at])
            except VendorError as error:
                return self._back(at, str(error))
            self._journal.done(steps[at])
        self._journal.end()
        return Outcome(state="done")

    def _back(self, last: int, reason: str) -> Outcome:
        steps = self._begun.steps
        for at in range(last, -1, -1):
            self._journal.note(at, back=True, reason=reason)
            step = steps[at].back()
            try:
                self._do(step)
            except VendorError as error:
                return Outcome(state="stuck", reason=f"{reason}; taking it back: {error}")
            self._journal.done(step)
        self._journal.end()
        return Outcome(state="undone", reason=reason)

    def _do(self, step: Step) -> None:
        """Raises VendorError where somebody holds what goes, and where nothing came of it."""
        if self._partitioner.is_done(step):
            return
        if holders := self._holders(step):
            raise VendorError(
                f"{step.verb} {step.name} of {step.gpu}: held by {', '.join(holders)}"
            )
        self._partitioner.apply(step)
        if not self._partitioner.is_done(step):
            raise VendorError(f"{step.verb} {step.name} of {step.gpu} was taken and is not there")
