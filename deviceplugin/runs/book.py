"""Which containers hold GPUs, since when, and which have let go of them; pure."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, field

from deviceplugin.learning.nodes import Measured
from deviceplugin.learning.runs import Run, owner_of_pod
from deviceplugin.model import DeviceID
from deviceplugin.runs.use import Use, measured
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.model import Owner, TelemetryView

MAX_HOLDS = 2000


class Hold(Struct, kw_only=True):
    """A container that holds GPUs: since when (None: it did before anybody looked), and when it was
    last seen to."""

    who: Owner
    start: float | None
    seen: float
    use: Use = field(default_factory=Use)
    devices: frozenset[DeviceID] = frozenset()


class Book:
    """Compares one look with the next; `before` are holds of an earlier process."""

    def __init__(self, before: Iterable[Hold] = ()) -> None:
        self.holds: dict[Owner, Hold] = {hold.who: hold for hold in before}
        self._first = True

    def look(self, held: Iterable[Held], now: float) -> tuple[bool, list[Measured]]:
        """Whether containers came or went since the last look, and the runs that ended.

        At the first look one that is not known has begun nobody knows when, and one that is gone
        ended when it was last seen.
        """
        devices = _by_container(held)
        ended = [self.holds.pop(who) for who in [*self.holds.keys() - devices.keys()]]
        came = devices.keys() - self.holds.keys()
        for who in sorted(came)[: MAX_HOLDS - len(self.holds)]:
            self.holds[who] = Hold(who=who, start=None if self._first else now, seen=now)
        for who, hold in self.holds.items():
            hold.seen, hold.devices = now, devices[who]
        until = None if self._first else now
        self._first = False
        return bool(ended or came), list(_runs(ended, until))

    def measure(self, view: TelemetryView) -> None:
        """Take a round of telemetry into account."""
        for who, hold in self.holds.items():
            hold.use.add(*measured(view, who, hold.devices))


def _by_container(held: Iterable[Held]) -> Mapping[Owner, frozenset[DeviceID]]:
    found: dict[Owner, set[DeviceID]] = {}
    for (namespace, pod, container), _, device in held:
        who = Owner(namespace=namespace, pod=pod, container=container)
        found.setdefault(who, set()).add(device)
    return {who: frozenset(devices) for who, devices in found.items()}


def _runs(ended: Iterable[Hold], until: float | None) -> Iterator[Measured]:
    """Those of which it is known how long they were."""
    for hold in ended:
        if hold.start is None:
            continue
        seconds = (hold.seen if until is None else until) - hold.start
        yield Measured(
            run=Run(
                namespace=hold.who.namespace,
                owner=owner_of_pod(hold.who.pod),
                container=hold.who.container,
                start=hold.start,
                seconds=max(1.0, seconds),
                peak_mib=hold.use.peak_mib,
                busy_ratio=hold.use.busy_ratio,
            ),
            mean_ratio=hold.use.mean_ratio,
        )
