"""What meters of several vendors need: values of one device, counters made to rates, sensors."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator

from deviceplugin.host.hwmon import Monitor
from deviceplugin.model import Device
from deviceplugin.vendor.telemetry import Measured

Labels = tuple[tuple[str, str], ...]
# Metric, number in its base unit, and its own labels.
Value = tuple[str, float, Labels]
Values = Iterator[Value]

NANO, MICRO, MILLI, PERCENT, MEGA = 1e-9, 1e-6, 1e-3, 1e-2, 1e6


def measured(device: Device, values: Iterable[Value]) -> list[Measured]:
    """The values as those of one device."""
    return [
        Measured(metric=metric, device=device.id, value=number, labels=labels)
        for metric, number, labels in values
    ]


class Rates:
    """The growth of counters since the last time; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[Hashable, tuple[float, float]] = {}

    def per_second(self, counter: Hashable, value: float) -> float | None:
        """Growth per second."""
        return self.over(counter, value, self._clock())

    def over(self, counter: Hashable, value: float, total: float) -> float | None:
        """Growth over that of `total`; None the first time, where `total` stands still, and after
        one of them was set back."""
        before = self._last.get(counter)
        self._last[counter] = (value, total)
        if before is None or total <= before[1] or value < before[0]:
            return None
        return (value - before[0]) / (total - before[1])


def temperatures(
    monitor: Monitor, sensor_of: Callable[[int, str | None], str | None]
) -> Iterator[Value]:
    """Each sensor that `sensor_of` has a name for, by its number and label, with its limits."""
    for number, label in monitor.sensors("temp"):
        sensor = sensor_of(number, label)
        if sensor is None:
            continue
        value = monitor.number(f"temp{number}_input")
        if value is not None:
            yield "temperature_celsius", value * MILLI, (("sensor", sensor),)
        for limit, file in (("slowdown", "crit"), ("shutdown", "emergency")):
            value = monitor.number(f"temp{number}_{file}")
            if value:
                labels = (("sensor", sensor), ("limit", limit))
                yield "temperature_limit_celsius", value * MILLI, labels


def fan_speeds(monitor: Monitor) -> Iterator[Value]:
    """The revolutions of each fan."""
    for number, _ in monitor.sensors("fan"):
        speed = monitor.number(f"fan{number}_input")
        if speed is not None:
            yield "fan_rpm", float(speed), (("fan", str(number)),)
