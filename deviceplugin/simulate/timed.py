"""A replay with times: pods come, wait in kube-scheduler's order where they fit nowhere, run, and
leave; pure."""

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from deviceplugin.scheduler.demand import Demand
from deviceplugin.simulate.coming import Coming, Order
from deviceplugin.simulate.timeline import Timeline

LEAVES, AGAIN, COMES = range(3)  # of what happens at the same time
# What is refused to the first of a kind in the queue is refused to all of it: demand, namespace and
# priority are all that decides, and the first has waited longest. A pod of a group is a kind of its
# own: who asks first of them is placed first.
Kind = tuple[Demand, str, int, str]


class Clock(Struct):
    """Unix seconds of the replay."""

    now: float = 0.0

    def __call__(self) -> float:
        """As clocks are asked."""
        return self.now


class Places(Protocol):
    """Who decides."""

    fragmented: float

    def came(self, one: Coming) -> None:
        """The pod is there, and has no node."""
        ...

    def place(self, one: Coming) -> str:
        """The node that the pod has from now on; empty if there is none."""
        ...

    def is_settled(self, one: Coming) -> bool:
        """Whether it is known that the pod has no node yet."""
        ...

    def left(self, one: Coming) -> None:
        """The pod is gone."""
        ...


class Wait(Struct, frozen=True):
    """A pod with the seconds that it waited for its node; `node` is empty if it never got one."""

    one: Coming
    seconds: float
    node: str


class TimedReplay:
    """`again_s` are times after which a pod that waits is tried again though nothing changed,
    `size` is what a pod asks for in thousandths of a GPU, and `counted` whether it counts among
    those that wait."""

    def __init__(
        self,
        places: Places,
        clock: Clock,
        size: Callable[[Demand], int],
        again_s: Sequence[float] = (),
        counted: Callable[[Demand], bool] = lambda demand: demand.asks,
    ) -> None:
        self._places, self._clock, self._size = places, clock, size
        self._counted = counted
        self._again_s = again_s
        self._events: list[tuple[float, int, Order, Coming]] = []
        self._waiting: dict[Kind, list[tuple[Order, Coming]]] = {}
        self.waits: list[Wait] = []
        self.most = 0  # pods with GPUs that waited at a time
        self.timeline = Timeline(0, 0)

    def run(self, coming: Sequence[Coming]) -> None:
        """Until nothing happens any more; `waits` and `timeline` then have what came of it."""
        self.timeline = self.line(coming)
        self._events = [(one.at, COMES, one.order, one) for one in coming]
        heapq.heapify(self._events)
        while self._events:
            self._clock.now = self._events[0][0]
            self.timeline.until(self._clock.now)
            self._happen(self._clock.now)
            self.timeline.now.fragmented = self._places.fragmented
        self.timeline.until(self.timeline.end)
        for queue in self._waiting.values():
            self.waits += [Wait(one, self._clock.now - one.at, "") for _, one in queue]

    def line(self, coming: Sequence[Coming]) -> Timeline:
        """The time that counts: from the first arrival to the last."""
        times = [one.at for one in coming] or [0.0]
        return Timeline(min(times), max(times))

    @property
    def last(self) -> float:
        """When the last thing happened."""
        return self._clock.now

    def _happen(self, now: float) -> None:
        """Who leaves at a time makes room for those who wait, before others come."""
        changed = False
        while self._events and self._events[0][0] <= now and self._events[0][1] != COMES:
            _, what, _, one = heapq.heappop(self._events)
            changed = True
            if what == LEAVES:
                self._places.left(one)
                self.timeline.now.allocated -= self._size(one.demand)
        if changed:
            self._retry()
        placed = False
        while self._events and self._events[0][0] <= now and self._events[0][1] == COMES:
            placed |= self._come(heapq.heappop(self._events)[3])
        if placed:
            self._retry()

    def _come(self, one: Coming) -> bool:
        self._places.came(one)
        if self._tried(one):
            return True
        self.refused(one)
        return False

    def refused(self, one: Coming) -> None:
        """A pod that came has no room: it waits."""
        heapq.heappush(self._waiting.setdefault(_kind(one), []), (one.order, one))
        self._count(one, 1)
        for seconds in self._again_s:
            heapq.heappush(self._events, (one.at + seconds, AGAIN, one.order, one))

    def _retry(self) -> None:
        """All who wait, until none of them gets a node."""
        while self._waiting and self._pass():
            pass

    def _pass(self) -> bool:
        placed = False
        first = [
            (queue[0][0], kind)
            for kind, queue in self._waiting.items()
            if self._again_s or not self._places.is_settled(queue[0][1])
        ]
        first.sort(key=lambda pair: pair[0], reverse=True)
        while first:
            _, kind = first.pop()
            queue = self._waiting[kind]
            if self._places.is_settled(queue[0][1]):
                continue
            while queue and self._tried(queue[0][1]):
                placed = True
                self._count(heapq.heappop(queue)[1], -1)
                if queue and first and first[-1][0] < queue[0][0]:
                    _insert(first, (queue[0][0], kind))
                    break
            if not queue:
                del self._waiting[kind]
        return placed

    def _tried(self, one: Coming) -> bool:
        node = self._places.place(one)
        if not node:
            return False
        now = self._clock.now
        self.waits.append(Wait(one, now - one.at, node))
        self.timeline.now.allocated += self._size(one.demand)
        if one.seconds is not None:
            heapq.heappush(self._events, (now + one.seconds, LEAVES, one.order, one))
        return True

    def _count(self, one: Coming, sign: int) -> None:
        if self._counted(one.demand):
            self.timeline.now.waiting += sign * self._size(one.demand)
            self.timeline.now.pods += sign
            self.most = max(self.most, round(self.timeline.now.pods))


def _kind(one: Coming) -> Kind:
    pod = one.pod
    alone = pod.key if one.group else ""
    return one.demand, pod.metadata.namespace, pod.spec.priority or 0, alone


def _insert(first: list[tuple[Order, Kind]], one: tuple[Order, Kind]) -> None:
    """Into a list that is popped from its end."""
    at = len(first)
    while at and first[at - 1][0] < one[0]:
        at -= 1
    first.insert(at, one)
