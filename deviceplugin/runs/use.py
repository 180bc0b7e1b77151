"""What a container used of its GPUs while it held them; pure."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from deviceplugin.model import DeviceID
from deviceplugin.telemetry.model import DeviceView, Owner, TelemetryView

STEPS = 20  # of utilisation: its quantile is known to a twentieth
HIGH = 0.9
MIB = 1 << 20


class Use(Struct):
    """Of all rounds in which it was measured: the most memory of one of its GPUs, and utilisation,
    of all of its GPUs together."""

    peak_mib: float | None = None
    total: float = 0.0
    steps: list[int] = field(default_factory=lambda: [0] * STEPS)

    def add(self, peak_bytes: float | None, ratio: float | None) -> None:
        """One round more."""
        if peak_bytes is not None:
            self.peak_mib = max(self.peak_mib or 0.0, peak_bytes / MIB)
        if ratio is not None:
            inside = min(max(ratio, 0.0), 1.0)
            self.total += inside
            self.steps[min(int(inside * STEPS), STEPS - 1)] += 1

    @property
    def mean_ratio(self) -> float | None:
        """The mean of utilisation, None where it was never measured."""
        count = sum(self.steps)
        return self.total / count if count else None

    @property
    def busy_ratio(self) -> float | None:
        """What nine of ten rounds stayed below."""
        due, so_far = HIGH * sum(self.steps), 0
        for step, count in enumerate(self.steps if due else ()):
            so_far += count
            if so_far >= due:
                return (step + 1) / STEPS
        return None


def measured(
    view: TelemetryView, who: Owner, devices: Iterable[DeviceID]
) -> tuple[float | None, float | None]:
    """The most memory in use of one of the container's devices, in bytes, and the mean of their
    utilisation; None for what cannot be told of this container."""
    found = [_of_one(view, one, who) for i in devices if (one := view.devices.get(i)) and one.up]
    memory = [used for used, _ in found if used is not None]
    ratios = [ratio for _, ratio in found if ratio is not None]
    return max(memory, default=None), sum(ratios) / len(ratios) if ratios else None


def _of_one(view: TelemetryView, one: DeviceView, who: Owner) -> tuple[float | None, float | None]:
    """By its processes where they are asked for and tell; else by the device, if nobody else has
    it."""
    used, ratio = _by_processes(view, one, who)
    if {owner for owner, _ in one.holders} == {who}:
        used = one.value("memory_used_bytes") if used is None else used
        ratio = one.value("utilization_ratio", engine="compute") if ratio is None else ratio
    return used, ratio


def _by_processes(
    view: TelemetryView, one: DeviceView, who: Owner
) -> tuple[float | None, float | None]:
    own = [p for p in view.processes or () if p.device == one.device.id and p.owner == who]
    return (
        _sum([float(p.memory_bytes) for p in own if p.memory_bytes is not None]),
        _sum([p.utilization_ratio for p in own if p.utilization_ratio is not None]),
    )


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None
