"""What has to hold all the time, looked at all the time."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.nodeview import NodeView
from tests.soak.node import SoakNode

FAILURES = frozenset(
    {"task_failed", "thread_failed", "vendor_raised", "plugin_function_failed", "vendor_conflict"}
)
# An id whose resource changed is in a killed daemon's list until the next one's takes its place.
TWO_LISTS = "are also listed by"
MIB = 1 << 20
# Two sockets that listen, and the kubelet's connection to the door and through it.
FDS_OF_A_RESOURCE = 5
# Of growth after the warm-up.
LIMITS = {"rss_mib": 8.0, "fds": 12, "threads": 4}
SAMPLE_S = 1.0


class LogTail(Struct):
    """The new lines of a log that is being written."""

    path: Path
    offset: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def read(self) -> Iterator[dict[str, Any]]:
        """Events since the last look; counted by name."""
        with self.path.open("rb") as log:
            log.seek(self.offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                event = json.loads(line) if line.startswith(b"{") else {"event": line.decode()}
                self.counts[event["event"]] += 1
                yield event


class Sample(Struct, frozen=True, kw_only=True):
    """What the daemon holds of the machine at one moment."""

    rss_mib: float
    fds: int
    threads: int


def sampled(pid: int) -> Sample:
    """The daemon with its children."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return Sample(
        rss_mib=sum(one.memory_info().rss for one in processes) / MIB,
        fds=sum(one.num_fds() for one in processes),
        threads=sum(one.num_threads() for one in processes),
    )


class Watch:
    """Collects what is broken: `broken` is empty after a good soak."""

    def __init__(self, stub: KubeletStub, node: SoakNode) -> None:
        self.broken: list[str] = []
        self._samples: dict[Path, list[Sample]] = {}
        self._stub, self._node = stub, node
        self._lock = threading.Lock()
        self._counters: dict[tuple[int, str], float] = {}
        self._tail: LogTail | None = None
        self._sampled_s = 0.0
        self.two_daemons = False
        self._excused: set[str] = set()
        self.twice = 0
        self._twice: set[tuple[str, str]] = set()
        self.added: Counter[str] = Counter()
        self.disconnects: Counter[str] = Counter()

    def follow(self, log: Path) -> None:
        """A daemon has started: its counters begin anew."""
        if self._tail is not None:
            self.look()
        with self._lock:
            self._tail, self._counters = LogTail(log), {}

    @property
    def events(self) -> Counter[str]:
        """How often each event was logged by this daemon."""
        self.look()
        return self._tail.counts if self._tail else Counter()

    def breaks(self, text: str) -> None:
        """Note a broken invariant."""
        if text not in self.broken:
            self.broken.append(text)

    def look(self) -> None:
        """Everything that can be seen from outside without asking the daemon."""
        for text in (*self._stub.crashes, *self._stub.violations):
            if self.two_daemons and TWO_LISTS in text:
                self._excused.add(text)
            if text not in self._excused:
                self.breaks(f"kubelet: {text}")
        for text in in_two_forms(self._stub, self._node):
            self.breaks(text)
        self.twice += len(given_twice(self._stub) - self._twice)
        self._twice = given_twice(self._stub)
        for name in self._stub.allocatable():
            if self._stub.live_streams(name) > 1:
                self.breaks(f"{name} has {self._stub.live_streams(name)} streams")
        for event in self._tail.read() if self._tail else ():
            if event["event"] in FAILURES or "exception" in event:
                self.breaks(f"log: {json.dumps(event)}")
            if event["event"] == "resource_added":
                self.added[event["resource"]] += 1

    def registrations_are_bounded(self) -> None:
        """One for each kubelet, each lost stream and each time that a resource appeared."""
        made = Counter(entry.resource for entry in self._stub.registrations)
        for name, count in made.items():
            reasons = self._stub.generation + self.disconnects[name] + self.added[name]
            if count > reasons:
                self.breaks(f"{name} was registered {count} times for {reasons} reasons")

    def scraped(self, log: Path, client: int, text: str) -> None:
        """Counters of one daemon never fall in the eyes of one client."""
        with self._lock:
            if self._tail is None or self._tail.path != log:
                return
            for name, value in counters(text).items():
                before = self._counters.get((client, name), 0.0)
                if value < before:
                    self.breaks(f"counter {name} fell from {before} to {value}")
                self._counters[client, name] = value

    def sample(self, log: Path, pid: int) -> None:
        """Note what the daemon that writes this log holds of the machine, once a second."""
        if time.monotonic() - self._sampled_s >= SAMPLE_S:
            self._sampled_s = time.monotonic()
            self.note(log, self._without_resources(sampled(pid)))

    def _without_resources(self, sample: Sample) -> Sample:
        """Layouts change, and each resource that is served has its sockets."""
        served = sum(self._stub.live_streams(name) for name in self._stub.allocatable())
        return replace(sample, fds=sample.fds - FDS_OF_A_RESOURCE * served)

    def note(self, log: Path, sample: Sample) -> None:
        """Keep one sample."""
        self._samples.setdefault(log, []).append(sample)

    @property
    def readings(self) -> Mapping[str, tuple[float, float]]:
        """Of the daemon that lived longest: each reading after the warm-up and at the end."""
        longest = max(self._samples.values(), key=len, default=[])
        third = max(1, len(longest) // 3)
        before, after = longest[third : 2 * third], longest[-third:]
        return {name: (least(before, name), least(after, name)) for name in LIMITS if before}

    def is_bounded(self) -> None:
        """Memory, descriptors and threads do not grow after the first third."""
        for name, (first, last) in self.readings.items():
            if last - first > LIMITS[name]:
                self.breaks(f"{name} grew from {first:.1f} to {last:.1f}")


def least(samples: Iterable[Sample], name: str) -> float:
    """The lowest of one reading: what a busy moment takes is given back, what leaks is not."""
    return min(float(getattr(sample, name)) for sample in samples)


def counters(text: str) -> Mapping[str, float]:
    """The series of an exposition that may only rise."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        family = name.partition("{")[0]
        if family.endswith(("_total", "_count", "_bucket", "_sum")) and not line.startswith("#"):
            found[name] = float(value)
    return found


def in_two_forms(stub: NodeView, node: SoakNode) -> list[str]:
    """GPUs that pods have in two ways although one excludes the other.

    A GPU is held whole, or in parts, or as one shared resource. What pods hold of a layout that is
    no more does not count: nothing is behind it.
    """
    forms: dict[str, set[str]] = defaultdict(set)
    for resource, device_id in held_ids(stub):
        if node.is_there(device_id):
            form = "parts" if node.is_part(device_id) else resource
            forms[node.gpu_of(device_id)].add(form)
    return [f"{gpu} is held as {sorted(found)}" for gpu, found in forms.items() if len(found) > 1]


def given_twice(stub: NodeView) -> set[tuple[str, str]]:
    """Ids that two containers have: the kubelet's own doing, since it alone knows what is free.

    A List of PodResources while it allocates makes it (devicemanager, UpdateAllocatedDevices); the
    daemon asks in quiet moments, and a pod may come in the very same one.
    """
    return {held for held, count in Counter(held_ids(stub)).items() if count > 1}


def held_ids(stub: NodeView) -> Iterator[tuple[str, str]]:
    """Resource and id of everything that pods hold, once for each container."""
    for holder, holding in list(stub.manager.held.items()):
        if holder.pod in stub.pods:
            yield from ((holder.resource, device_id) for device_id in holding.ids)
