"""/metrics of devices, from the newest view: nothing is asked, nothing is waited for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from deviceplugin.metrics.registry import number
from deviceplugin.model import DeviceID
from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.identity import identity, labelled
from deviceplugin.telemetry.metric import Alias, Metric
from deviceplugin.telemetry.model import DeviceView, Labels, Owner, TelemetryView

Counts = Mapping[tuple[str, str, str], int]
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Known(Struct, frozen=True, kw_only=True):
    """What the daemon knows beside the view: events and resets of devices, driver versions."""

    node: str = ""
    events: Counts = field(default_factory=dict)
    resets: Mapping[DeviceID, int] = field(default_factory=dict)
    drivers: Mapping[str, str] = field(default_factory=dict)


class Shown(Struct, frozen=True, kw_only=True):
    """What a configuration shows: names of pods, names of other exporters."""

    pods: bool = True
    compatibility: Sequence[str] = ()


class Lines(Struct):
    """All series of one name, already written."""

    name: str
    kind: str
    help: str
    samples: list[str]

    def lines(self) -> Iterator[str]:
        """As they are sent."""
        yield f"# HELP {self.name} {self.help.translate(_IN_HELP)}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self.samples


class TelemetryCollector:
    """Series of the newest view; `now` gives Unix seconds."""

    def __init__(
        self,
        view: Callable[[], TelemetryView | None],
        known: Callable[[], Known],
        shown: Callable[[], Shown],
        now: Callable[[], float],
    ) -> None:
        self._view, self._known, self._shown, self._now = view, known, shown, now

    def collect(self) -> Iterator[Lines]:
        """All series, metric by metric; nothing while telemetry is off."""
        view = self._view()
        if view is None:
            return
        writer = Writer(view, self._known(), self._shown(), self._now())
        yield from writer.written()


class Writer:
    """Writes one view."""

    def __init__(self, view: TelemetryView, known: Known, shown: Shown, now: float) -> None:
        self._view, self._known, self._shown, self._now = view, known, shown, now
        self._families = {metric.name: _empty(metric) for metric in METRICS.values()}
        self._aliases = _aliases(shown.compatibility)
        self._extra: dict[Labels, str] = {}

    def written(self) -> Iterator[Lines]:
        """Every family that has a series."""
        for view in self._view.devices.values():
            self._device(view)
        self._events()
        if self._view.processes is not None:
            self._processes()
        yield from (family for family in self._families.values() if family.samples)

    def _device(self, view: DeviceView) -> None:
        parent = self._view.devices.get(view.device.parent or view.device.id, view)
        owner = self._owner_of(view)
        own = labelled(identity(view.device, parent.device), owner)
        self._put("up", own, float(view.up))
        info = self._info(view)
        self._put("info", own, 1.0, info)
        if view.seen_at is not None:
            self._put("last_seen_timestamp_seconds", own, view.seen_at)
        if view.readings:
            self._put("reading_age_seconds", own, max(0.0, self._now - view.readings[0].at))
        for reading in view.readings:
            self._put(reading.metric, own, reading.value, reading.labels)
        if self._shown.pods and view.shares:
            self._shares(view, parent)
        if self._aliases:
            self._others(view, parent, owner)

    def _shares(self, view: DeviceView, parent: DeviceView) -> None:
        own = labelled(identity(view.device, parent.device))
        for holder, share in view.shares:
            self._put("pod_allocated_ratio", own, share, owner_labels(holder))

    def _owner_of(self, view: DeviceView) -> Owner | None:
        """The one container that has the device; of several none: their parts of it are told by
        processes, and a sum over series must not count the device twice."""
        owners = {owner for owner, _ in view.holders}
        return owners.pop() if self._shown.pods and len(owners) == 1 else None

    def _info(self, view: DeviceView) -> Labels:
        device = view.device
        numa = "" if device.numa_node is None else str(device.numa_node)
        return (
            ("profile", device.profile or ""),
            ("parent", device.parent or ""),
            ("numa_node", numa),
            ("driver_version", self._known.drivers.get(device.vendor, "")),
        )

    def _put(self, key: str, own: str, value: float, labels: Labels = ()) -> None:
        metric = METRICS[key]
        family = self._families[metric.name]
        family.samples.append(f"{metric.name}{{{own}{self._text(labels)}}} {number(value)}")

    def _text(self, labels: Labels) -> str:
        text = self._extra.get(labels)
        if text is None:
            text = self._extra[labels] = labelled(labels, before=True)
        return text

    def _events(self) -> None:
        """Counters of devices that are there: those that are gone have no labels any more."""
        texts = {}
        for one in self._view.devices.values():
            parent = self._view.devices.get(one.device.parent or one.device.id, one)
            texts[one.device.id] = labelled(identity(one.device, parent.device))
        for (device, source, code), count in sorted(self._known.events.items()):
            own = texts.get(DeviceID(device))
            _, _, word = source.partition(".")
            key = {"xid": "xid_errors_total", "wedged": "wedged_total"}.get(word)
            if own is not None and key is not None:
                self._put(key, own, float(count), (("code", code),))
        for one_id, own in texts.items():
            if self._known.resets.get(one_id):
                self._put("resets_total", own, float(self._known.resets[one_id]))

    def _processes(self) -> None:
        users = users_of(self._view)
        for view in self._view.devices.values():
            parent = self._view.devices.get(view.device.parent or view.device.id, view)
            own = labelled(identity(view.device, parent.device))
            mine = users.get(view.device.id, {})
            for word, wanted in (("true", True), ("false", False)):
                count = sum(u.processes for o, u in mine.items() if (o is not None) is wanted)
                self._put("processes", own, float(count), (("owned", word),))
            for owner, use in mine.items() if self._shown.pods else ():
                self._use(own, owner, use)

    def _use(self, own: str, owner: Owner | None, use: "Use") -> None:
        labels = owner_labels(owner)
        self._put("pod_processes", own, float(use.processes), labels)
        if use.memory_bytes is not None:
            self._put("pod_memory_used_bytes", own, float(use.memory_bytes), labels)
        if use.utilization_ratio is not None:
            self._put("pod_utilization_ratio", own, min(use.utilization_ratio, 1.0), labels)

    def _others(self, view: DeviceView, parent: DeviceView, owner: Owner | None) -> None:
        from deviceplugin.telemetry.others import other_labels  # noqa: PLC0415  # where asked for

        known = (self._known.node, self._known.drivers.get(view.device.vendor, ""))
        texts = {
            family: labelled(labels, owner)
            for family, labels in other_labels(view.device, parent.device, known).items()
        }
        for reading in view.readings:
            for alias in self._aliases.get(reading.metric, ()):
                own = texts.get(alias.family)
                if own is not None and set(alias.where) <= {*reading.labels}:
                    self._put_alias(alias, own, reading.value)

    def _put_alias(self, alias: Alias, own: str, value: float) -> None:
        family = self._families.setdefault(
            alias.name, Lines(alias.name, alias.kind, alias.help, [])
        )
        text = f"{own}{self._text(alias.labels)}"
        family.samples.append(f"{alias.name}{{{text}}} {number(value * alias.scale)}")


class Use(Struct):
    """What the processes of one container have of one device, together."""

    processes: int = 0
    memory_bytes: int | None = None
    utilization_ratio: float | None = None


def users_of(view: TelemetryView) -> Mapping[DeviceID, Mapping[Owner | None, Use]]:
    """The use of each device by each container; None: by processes that no pod owns."""
    found: dict[DeviceID, dict[Owner | None, Use]] = {}
    for process in view.processes or ():
        use = found.setdefault(process.device, {}).setdefault(process.owner, Use())
        use.processes += 1
        if process.memory_bytes is not None:
            use.memory_bytes = (use.memory_bytes or 0) + process.memory_bytes
        if process.utilization_ratio is not None:
            use.utilization_ratio = (use.utilization_ratio or 0.0) + process.utilization_ratio
    return found


def owner_labels(owner: Owner | None) -> Labels:
    """Empty texts for processes of nobody."""
    if owner is None:
        return (("namespace", ""), ("pod", ""), ("container", ""))
    return (("namespace", owner.namespace), ("pod", owner.pod), ("container", owner.container))


def _empty(metric: Metric) -> Lines:
    return Lines(metric.name, metric.kind, metric.help, [])


def _aliases(families: Iterable[str]) -> Mapping[str, tuple[Alias, ...]]:
    wanted = {*families}
    found = {
        key: tuple(alias for alias in metric.aliases if alias.family in wanted)
        for key, metric in METRICS.items()
    }
    return {key: aliases for key, aliases in found.items() if aliases}
