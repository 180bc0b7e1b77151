"""Series as a node with telemetry shows them, made of the catalogue: every metric with labels of
its own, so that a query which names another metric or label finds nothing."""

from collections.abc import Iterator, Mapping

from deviceplugin.metrics.registry import Family
from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.metric import COMMON

# The labels that queries choose by; any other has one value.
VALUES: Mapping[str, tuple[str, ...]] = {
    "engine": ("compute", "memory"),
    "sensor": ("gpu", "memory"),
    "reason": ("power_brake", "thermal"),
    "spare": ("max", "none"),
    "kind": ("corrected", "uncorrected"),
    "clock": ("sm",),
}
GPUS = ("GPU-0", "GPU-1")


class Measured:
    """Two GPUs; `set` gives a metric another value on the first one."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def set(self, **values: float) -> None:
        self._values |= values

    def collect(self) -> Iterator[Family]:
        for metric in METRICS.values():
            names = [*COMMON, *metric.labels]
            family = Family(metric.name, metric.kind, metric.help, names)
            for uuid in GPUS:
                for chosen in _chosen(metric.labels):
                    value = self._values.get(metric.key, 0.25) if uuid == GPUS[0] else 0.25
                    common = ("nvidia", uuid, uuid[-1], "0000:07:00.0", "A100", "")
                    family.add([*common, *chosen], 1.0 if metric.key == "up" else value)
            yield family


def _chosen(labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every value of the first label, the first of each other."""
    if not labels:
        yield ()
        return
    first, *rest = labels
    for value in VALUES.get(first, (f"a-{first}",)):
        yield (value, *(VALUES.get(name, (f"a-{name}",))[0] for name in rest))
