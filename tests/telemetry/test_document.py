"""docs/metrics.md is made of the table, and the table says what vendors give."""

import os
from pathlib import Path

import pytest

from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.compatible import ALIASES
from deviceplugin.telemetry.document import document

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def test_the_page_is_the_table() -> None:
    if os.environ.get("STORIES") == "write":
        PAGE.write_text(document())
    assert PAGE.read_text() == document()


def test_names_are_base_units_and_counters_end_in_total() -> None:
    for metric in METRICS.values():
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        unit = metric.unit.replace("/second", "_per_second")
        assert unit in metric.name.removesuffix("_total"), metric.name


def test_no_two_names_are_alike() -> None:
    aliases = [alias.name for metric in METRICS.values() for alias in metric.aliases]
    names = [*aliases, *(metric.name for metric in METRICS.values())]
    # One name may be made of several labels, never of two metrics.
    owners = {name: {m.key for m in METRICS.values() if name in _names(m.key)} for name in names}
    assert {name: keys for name, keys in owners.items() if len(keys) != 1} == {}


def _names(key: str) -> set[str]:
    return {METRICS[key].name, *(alias.name for alias in METRICS[key].aliases)}


@pytest.mark.parametrize("key", ALIASES)
def test_an_alias_is_of_labels_that_its_metric_has(key: str) -> None:
    for alias in ALIASES[key]:
        assert {name for name, _ in alias.where} <= set(METRICS[key].labels)
