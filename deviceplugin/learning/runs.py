"""What was: finished runs of containers, and the groups that they are alike in; pure."""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import Struct

KEPT = 48  # finished runs of a group that are remembered, the latest
MAX_GROUPS = 5000
MAX_RUNNING = 60  # of a group, the latest
# What Kubernetes makes up for names has no vowels, and no 0, 1 and 3 (apimachinery, util/rand).
_MADE_UP = "-[bcdfghjklmnpqrstvwxz2456789]{5}"
_NUMBER = re.compile(rf"({_MADE_UP})?-?\d*$")
_POD = re.compile(rf"{_MADE_UP}$")
_HASH = re.compile(r"-[0-9a-f]{6,10}$")
_ORDINAL = re.compile(r"-\d+$")
Group = tuple[str, ...]


class Run(Struct, frozen=True, kw_only=True):
    """One run of a container: Unix seconds, and what it used at most, None where nobody looked;
    `busy_ratio` is the 90th percentile of utilisation."""

    namespace: str
    owner: str
    container: str = ""
    start: float
    seconds: float
    peak_mib: float | None = None
    busy_ratio: float | None = None

    @property
    def group(self) -> Group:
        """The runs that it is like."""
        return (self.namespace, self.owner, self.container)

    @property
    def end(self) -> float:
        """When it ended."""
        return self.start + self.seconds


class Past(Struct, frozen=True):
    """A finished run as predictions take it: when it started and ended, and ln of its seconds."""

    start: float
    end: float
    log: float
    peak_mib: float | None = None
    busy_ratio: float | None = None


class Begun(Struct, frozen=True):
    """A run that began: when, ln of the seconds that it lasted or has lasted so far, and whether it
    has ended."""

    start: float
    log: float
    has_ended: bool


def owner_name(kind: str, name: str) -> str:
    """The owner as it is called again and again: a Deployment's ReplicaSets have a hash in their
    names, a CronJob's Jobs a number."""
    if kind == "ReplicaSet":
        return _HASH.sub("", name)
    if kind == "Job":
        return _NUMBER.sub("", name) or name
    return name


def owner_of_pod(name: str) -> str:
    """The owner by a pod's name alone, where nobody says whose it is: as `owner_name` would have it
    for pods of Deployments, Jobs, CronJobs, StatefulSets and DaemonSets."""
    made = _POD.sub("", name)
    if made == name:
        return _ORDINAL.sub("", name) or name
    replicas = _HASH.sub("", made)
    return replicas if replicas != made else owner_name("Job", made)


def log_of(seconds: float) -> float:
    """The natural logarithm of seconds, of one at least."""
    return math.log(max(1.0, seconds))


class History:
    """The latest runs of each group and of each namespace, and those that run now."""

    def __init__(self) -> None:
        self._past: dict[Group, deque[Past]] = {}
        self._running: dict[Group, dict[str, float]] = {}

    def add(self, run: Run) -> None:
        """A run has ended; they come in the order in which they end."""
        past = Past(run.start, run.end, log_of(run.seconds), run.peak_mib, run.busy_ratio)
        for group in (run.group, (run.namespace,)):
            found = self._past.pop(group, None)
            if found is None:
                found = deque(maxlen=KEPT)
                if len(self._past) >= MAX_GROUPS:
                    del self._past[next(iter(self._past))]
            found.append(past)
            self._past[group] = found

    def started(self, group: Group, key: str, start: float) -> None:
        """A run of the group has begun."""
        for scope in (group, group[:1]):
            self._running.setdefault(scope, {})[key] = start

    def ended(self, group: Group, key: str) -> None:
        """It runs no more."""
        for scope in (group, group[:1]):
            running = self._running.get(scope, {})
            running.pop(key, None)
            if not running:
                self._running.pop(scope, None)

    def past(self, group: Group) -> list[Past]:
        """The latest runs of the group, the latest first."""
        return list(self._past.get(group, ()))[::-1]

    def running(self, group: Group) -> list[float]:
        """When those that run now began."""
        return list(self._running.get(group, {}).values())[-MAX_RUNNING:]

    def begun(self, group: Group, now: float) -> list[Begun]:
        """The latest runs of the group, those that go on among them, the latest begun first."""
        ended = [Begun(one.start, one.log, has_ended=True) for one in self._past.get(group, ())]
        going = [Begun(at, log_of(now - at), has_ended=False) for at in self.running(group)]
        return sorted([*ended, *going], key=lambda one: -one.start)

    def groups(self) -> Iterator[tuple[Group, Iterable[Past]]]:
        """All groups, without the namespaces."""
        for group, past in self._past.items():
            if len(group) > 1:
                yield group, past
