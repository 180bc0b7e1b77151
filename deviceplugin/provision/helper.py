"""The privileged process: reads the GPUs, plans, and makes true what was planned; nothing else.

It does nothing by itself: also what an ended process had begun waits until the daemon, which knows
what pods hold, asks for it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DevicePluginError, VendorError
from deviceplugin.provision.hands import read_node
from deviceplugin.provision.held import Places, holders_of, with_held
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_fit, plan_node
from deviceplugin.provision.protocol import Answer, Apply, Fit, Limit, Look, Recover, Request
from deviceplugin.provision.transaction import Transaction
from deviceplugin.provision.values import Held, Plan, Planned
from deviceplugin.vendor.partitions import PartitionedGpu, Partitioner, Step

BUSY_S = 1.0


class Around(Struct, frozen=True, kw_only=True):
    """Where it works: the state directory, the kernel's boot id, who else partitions the node, for
    how long what is held is kept from new pods, and what sets a limit on a container's memory."""

    state_dir: Path
    boot: str
    owners: Callable[[], Sequence[str]] = tuple
    drain_wait_s: float = 0.0
    limit: Callable[[Limit], None] | None = None


class Helper:
    """Answers one request after the other, from any thread."""

    def __init__(self, hands: Mapping[str, Partitioner], around: Around) -> None:
        """Raises VendorError for a journal that cannot be understood."""
        self._hands, self._around = hands, around
        self._journal = Journal(around.state_dir, around.boot)
        self._lock = Lock()

    def answer(self, request: Request) -> Answer:
        """What was asked for, or that something else runs; a limit waits for nothing."""
        if isinstance(request, Limit):
            return self._limited(request)
        if not self._lock.acquire(timeout=BUSY_S):
            return self._told(Answer(busy=True))
        try:
            return self._answer(request)
        except DevicePluginError as error:
            return self._told(Answer(error=str(error)))
        finally:
            for hand in self._hands.values():
                hand.close()
            self._lock.release()

    def _limited(self, request: Limit) -> Answer:
        if self._around.limit is None:
            return Answer(error="no limits are set here")
        try:
            self._around.limit(request)
        except DevicePluginError as error:
            return Answer(error=str(error))
        return Answer()

    def rest(self, timeout_s: float) -> None:
        """Wait until no change runs, and let none begin."""
        self._lock.acquire(timeout=timeout_s)

    def _answer(self, request: Look | Apply | Fit | Recover) -> Answer:
        if isinstance(request, Look):
            return self._told(self._look(request))
        if owners := self._around.owners():
            text = f"{', '.join(owners)} runs here"
            return self._told(Answer(owners=tuple(owners), error=text))
        if isinstance(request, Recover):
            outcome = self._transaction(request.held).recover()
            return self._told(Answer(outcome=outcome))
        if isinstance(request, Fit):
            return self._told(self._fit(request))
        return self._told(self._apply(request))

    def _look(self, request: Look) -> Answer:
        gpus, problems = read_node(self._hands)
        found, places = with_held(gpus, request.held)
        made = {gpu.id: self._journal.places(gpu.id) for gpu in gpus}
        planned = plan_node(found, request.layouts, made, places)
        owners = tuple(self._around.owners())
        return Answer(planned=planned, problems=problems, owners=owners)

    def _apply(self, request: Apply) -> Answer:
        gpus, problems = read_node(self._hands)
        found, places = with_held(gpus, request.held)
        made = {request.gpu: self._journal.places(request.gpu)}
        every = plan_node(found, request.layouts or (request.layout,), made, places)
        planned = tuple(one for one in every if one.gpu.id == request.gpu)
        if not planned:
            return Answer(problems=problems, error=f"there is no GPU {request.gpu} for this")
        if planned[0].state != "change" or planned[0].steps != request.steps:
            return Answer(planned=planned, error=_another(planned[0]))
        outcome = self._transaction(request.held).run(request.steps)
        return Answer(planned=planned, outcome=outcome)

    def _fit(self, request: Fit) -> Answer:
        planned = self._fitted(request)
        if planned.state != "change":
            error = planned.reason if planned.state != "as-wanted" else ""
            return Answer(planned=(planned,), error=error)
        outcome = self._transaction(request.held).run(planned.steps)
        return Answer(planned=(self._fitted(request),), outcome=outcome)

    def _fitted(self, request: Fit) -> Planned:
        """How the GPU stands to what is asked."""
        gpus, problems = read_node(self._hands)
        found, places = with_held([gpu for gpu in gpus if gpu.id == request.gpu], request.held)
        if not found:
            told = "; ".join(problems.values())
            raise VendorError(f"there is no GPU {request.gpu} now{': ' * bool(told)}{told}")
        (gpu,) = found
        made = self._journal.places(gpu.id)
        return plan_fit(
            gpu,
            request.places,
            Plan(made=made, held=places[gpu.id]),
            whole=request.whole,
        )

    def _transaction(self, held: Sequence[Held]) -> Transaction:
        node = _Node(self._hands, held)
        return Transaction(self._journal, node, node.holders)

    def _told(self, answer: Answer) -> Answer:
        """The answer with what every one has."""
        begun = self._journal.record.begun
        steps = begun.steps if begun else ()
        return replace(answer, begun=steps, drain_wait_s=self._around.drain_wait_s)


class _Node:
    """All hands as one: a step is done by those of its GPU's vendor."""

    def __init__(self, hands: Mapping[str, Partitioner], held: Sequence[Held]) -> None:
        self._hands, self._held = hands, held
        self._vendors: dict[str, str] = {}

    def read(self) -> Sequence[PartitionedGpu]:
        gpus, _ = read_node(self._hands)
        self._vendors = {gpu.id: gpu.vendor for gpu in gpus}
        return gpus

    def apply(self, step: Step) -> None:
        self._of(step).apply(step)

    def is_done(self, step: Step) -> bool:
        return self._of(step).is_done(step)

    def close(self) -> None:
        """Each was closed when it was read."""

    def holders(self, step: Step) -> Sequence[str]:
        gpus: tuple[PartitionedGpu, ...]
        places: Places
        gpus, places = with_held([gpu for gpu in self.read() if gpu.id in step.gpus], self._held)
        return [name for gpu in gpus for name in holders_of(gpu, places[gpu.id], step)]

    def _of(self, step: Step) -> Partitioner:
        if step.gpu not in self._vendors:
            self.read()
        if step.gpu not in self._vendors:
            raise VendorError(f"there is no GPU {step.gpu} now")
        return self._hands[self._vendors[step.gpu]]


def _another(planned: Planned) -> str:
    """The hardware, or who holds it, has changed since the steps were planned."""
    return planned.reason or "another plan is needed now"
