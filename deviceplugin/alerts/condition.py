"""Conditions of alerts, as people write them: `utilization > 90%`, `temperature > 85°C`; pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

from deviceplugin.telemetry.metric import PREFIX
from deviceplugin.telemetry.model import DeviceView

_WRITTEN = re.compile(
    r"\s*([a-z][a-z_]*)\s*(>=|<=|>|<)\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(\S*)\s*"
)
# Each unit of a quantity with its factor; the first one is that of messages.
_RATIO: Mapping[str, float] = {"%": 0.01}
_CELSIUS: Mapping[str, float] = {"°C": 1.0, "C": 1.0, "℃": 1.0, "celsius": 1.0}
_WATTS: Mapping[str, float] = {"W": 1.0, "kW": 1000.0}
_BYTES: Mapping[str, float] = {
    "GiB": float(1 << 30),
    "MiB": float(1 << 20),
    "GB": 1e9,
    "MB": 1e6,
}
_RPM: Mapping[str, float] = {"rpm": 1.0}


class Quantity(Struct, frozen=True):
    """What a word measures: a metric of the catalogue, or the first one as a part of `of`."""

    metric: str
    units: Mapping[str, float]
    labels: tuple[tuple[str, str], ...] = ()
    of: str = ""

    def value(self, view: DeviceView) -> float | None:
        """What a device shows, None where it does not tell."""
        found = view.value(self.metric, **dict(self.labels))
        if not self.of or found is None:
            return found
        whole = view.value(self.of)
        return found / whole if whole else None

    def query(self) -> str:
        """The same for Prometheus."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        one = f"{PREFIX}{self.metric}" + (f"{{{labels}}}" if labels else "")
        return f"{one} / {PREFIX}{self.of}" if self.of else one

    def shown(self, value: float) -> str:
        """A value in the quantity's first unit."""
        unit, factor = next(iter(self.units.items()))
        return f"{value / factor:.4g}{'' if unit in ('%', '°C') else ' '}{unit}"


def _engine(name: str) -> Quantity:
    return Quantity("utilization_ratio", _RATIO, (("engine", name),))


def _sensor(name: str) -> Quantity:
    return Quantity("temperature_celsius", _CELSIUS, (("sensor", name),))


_COMPUTE, _POWER = _engine("compute"), Quantity("power_watts", _WATTS)
QUANTITIES: Mapping[str, Quantity] = {
    "utilization": _COMPUTE,
    "gpu_utilization": _COMPUTE,
    "compute_utilization": _COMPUTE,
    "memory_utilization": Quantity("memory_used_bytes", _RATIO, (), "memory_total_bytes"),
    "memory": Quantity("memory_used_bytes", _BYTES),
    "memory_used": Quantity("memory_used_bytes", _BYTES),
    "encoder_utilization": _engine("encoder"),
    "decoder_utilization": _engine("decoder"),
    "tensor_utilization": _engine("tensor"),
    "tensor_core_usage": _engine("tensor"),
    "temperature": _sensor("gpu"),
    "hotspot_temperature": _sensor("hotspot"),
    "memory_temperature": _sensor("memory"),
    "power": _POWER,
    "power_consumption": _POWER,
    "fan": Quantity("fan_ratio", _RATIO),
}
_WORKLOAD = "no GPU tells it, only the program that runs on it: let that export a metric"
# What people ask for and no GPU measures: accepted, so that a whole document can be used, and said.
UNMEASURED: Mapping[str, str] = {
    "throughput": f"frames or requests per second: {_WORKLOAD}",
    "latency": f"the latency of requests: {_WORKLOAD}",
    "kernel_efficiency": f"the efficiency of a program: {_WORKLOAD}",
    "cache_hit_ratio": "hits of a cache are counted by profilers alone, inside a container",
    "memory_fragmentation": "drivers do not tell how memory is divided",
    "memory_bandwidth": "it is told as a part of what is possible: write utilization",
    "network_bandwidth": "it is a network's: the node's own exporter has it",
    "network_latency": "it is a network's: the node's own exporter has it",
    "packet_loss": "it is a network's: the node's own exporter has it",
}
_WORD = re.compile(r"\s*([a-z][a-z_]*)\b")


class Condition(Struct, frozen=True):
    """A bound: `limit` is in the metric's own unit."""

    quantity: Quantity
    sign: str
    limit: float
    text: str

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the bound."""
        if self.sign[0] == ">":
            return value > self.limit or (self.sign == ">=" and value == self.limit)
        return value < self.limit or (self.sign == "<=" and value == self.limit)

    def query(self) -> str:
        """The same for Prometheus."""
        return f"{self.quantity.query()} {self.sign} {self.limit:.12g}"


def unmeasured(text: str) -> str:
    """Why nothing can be said of a condition's subject, empty where something can."""
    match = _WORD.match(text)
    return UNMEASURED.get(match[1], "") if match else ""


def parse_condition(text: str) -> Condition:
    """Raises ValueError with what to write instead."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError("one bound such as `utilization > 90%`, by >, >=, < or <=")
    word, sign, number, unit = match.groups()
    quantity = QUANTITIES.get(word)
    if quantity is None:
        raise ValueError(f"a bound for one of {', '.join(sorted(QUANTITIES))}")
    factor = quantity.units.get(unit)
    if factor is None:
        units = " or ".join(quantity.units)
        example = f"{word} {sign} {number}{next(iter(quantity.units))}"
        raise ValueError(f"a number with its unit ({units}): write `{example}`")
    limit = float(number) * factor
    if quantity.units is _RATIO and limit > 1:
        raise ValueError("a percentage up to 100%")
    return Condition(quantity, sign, limit, text.strip())
