"""Conditions as people write them: their meaning, their query, and what is refused with what to
write instead."""

from types import MappingProxyType

import pytest

from deviceplugin.alerts.condition import QUANTITIES, UNMEASURED, parse_condition, unmeasured
from deviceplugin.model import Device, DeviceID
from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.metric import PREFIX
from deviceplugin.telemetry.model import DeviceView, Reading

GPU = Device(id=DeviceID("GPU-0"), vendor="nvidia")


def view(**values: float) -> DeviceView:
    """Readings by metric, with a label after two underscores: `fan_ratio__fan_0`."""
    readings = []
    for name, value in values.items():
        metric, _, label = name.partition("__")
        key, _, word = label.partition("_")
        labels = ((key, word),) if label else ()
        readings.append(Reading(metric=metric, device=GPU.id, value=value, at=1.0, labels=labels))
    return DeviceView(device=GPU, up=True, readings=tuple(readings))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("utilization > 90%", f'{PREFIX}utilization_ratio{{engine="compute"}} > 0.9'),
        ("gpu_utilization>=5 %", f'{PREFIX}utilization_ratio{{engine="compute"}} >= 0.05'),
        ("temperature > 85°C", f'{PREFIX}temperature_celsius{{sensor="gpu"}} > 85'),
        ("temperature > 85C", f'{PREFIX}temperature_celsius{{sensor="gpu"}} > 85'),
        ("memory_temperature > 95 celsius", f'{PREFIX}temperature_celsius{{sensor="memory"}} > 95'),
        (
            "memory_utilization > 95%",
            f"{PREFIX}memory_used_bytes / {PREFIX}memory_total_bytes > 0.95",
        ),
        ("memory < 1GiB", f"{PREFIX}memory_used_bytes < 1073741824"),
        ("power_consumption <= 0.3kW", f"{PREFIX}power_watts <= 300"),
        ("fan > 80%", f"{PREFIX}fan_ratio > 0.8"),
    ],
)
def test_a_condition_is_a_query(text: str, query: str) -> None:
    assert parse_condition(text).query() == query


@pytest.mark.parametrize(
    ("text", "shown", "value"),
    [
        ("utilization > 90%", view(utilization_ratio__engine_compute=0.91), 0.91),
        ("temperature > 85°C", view(temperature_celsius__sensor_gpu=86.0), 86.0),
        ("memory_utilization > 50%", view(memory_used_bytes=6.0, memory_total_bytes=8.0), 0.75),
        ("power < 100W", view(power_watts=99.0), 99.0),
    ],
)
def test_a_condition_holds_on_a_device(text: str, shown: DeviceView, value: float) -> None:
    condition = parse_condition(text)
    found = condition.quantity.value(shown)
    assert found == value
    assert condition.holds(value)


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("temperature > 85°C", 85.0, False),
        ("temperature >= 85°C", 85.0, True),
        ("temperature < 85°C", 85.0, False),
        ("temperature <= 85°C", 85.0, True),
        ("temperature < 85°C", 84.9, True),
        ("temperature >= 85°C", 84.9, False),
    ],
)
def test_a_bound_is_in_or_out(text: str, value: float, *, holds: bool) -> None:
    assert parse_condition(text).holds(value) is holds


@pytest.mark.parametrize("text", ["utilization > 90%", "memory_utilization > 1%"])
def test_another_reading_is_not_taken_for_it(text: str) -> None:
    shown = view(utilization_ratio__engine_memory=0.99, memory_used_bytes=3.0)
    assert parse_condition(text).quantity.value(shown) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temperature > 85", "write `temperature > 85°C`"),
        ("utilization > 0.9", "write `utilization > 0.9%`"),
        ("power > 300°C", r"\(W or kW\)"),
        ("utilization > 900%", "a percentage up to 100%"),
        ("frobs > 3%", "a bound for one of compute_utilization"),
        ("temperature", "one bound such as"),
        ("temperature > 85°C and power > 3W", "one bound such as"),
        ("temperature == 85°C", "one bound such as"),
        ("", "one bound such as"),
        ("temperature > -3°C", "one bound such as"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_condition(text)


def test_what_no_gpu_tells_has_a_reason() -> None:
    assert "no GPU tells it" in unmeasured("throughput < 1000fps")
    assert unmeasured("utilization > 90%") == ""
    assert not UNMEASURED.keys() & QUANTITIES.keys()


@pytest.mark.parametrize("word", QUANTITIES)
def test_every_word_is_a_metric_of_the_catalogue(word: str) -> None:
    quantity = QUANTITIES[word]
    assert quantity.metric in METRICS
    assert not quantity.of or quantity.of in METRICS
    assert {name for name, _ in quantity.labels} <= set(METRICS[quantity.metric].labels)


def test_a_value_is_shown_in_the_unit_of_its_condition() -> None:
    shown = MappingProxyType({"utilization": 0.913, "temperature": 86.0, "memory": 3.5 * (1 << 30)})
    words = [QUANTITIES[word].shown(value) for word, value in shown.items()]
    assert words == ["91.3%", "86°C", "3.5 GiB"]
