"""The file of prices: what is wrong with it is said with its key."""

from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cli.fleet_cost import biller_of, read_costs
from deviceplugin.cost.section import fraction
from deviceplugin.errors import ConfigError
from tests.cost.examples import PRICE, costs

OWNED = {"source": "invoice", "dated": "2026-01-01", "owned": {"capex": 1}}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"prices": [{"hourly": 1}]}, r"cost.prices\[0\].source"),
        ({"prices": [{"hourly": 1, "source": "x"}]}, r"cost.prices\[0\].dated"),
        ({"prices": [PRICE | {"source": " "}]}, "where the price is from"),
        ({"prices": [PRICE | OWNED]}, "hourly or owned"),
        ({"prices": [PRICE | {"hourly": -1}]}, "hourly.*an amount from 0"),
        ({"prices": [PRICE | {"dated": "2026-02-30"}]}, "dated.*a day such as"),
        ({"prices": [PRICE | {"dated": "spring"}]}, "dated.*a day such as"),
        ({"prices": [OWNED | {"owned": {"capex": 1, "life_years": 0}}]}, "years above 0"),
        ({"prices": [PRICE | {"energy": {"tariff_kwh": 1, "pue": 0.9}}]}, "effectiveness from 1"),
        (
            {"prices": [PRICE | {"valid_from": "2026-02-02", "valid_until": "2026-02-02"}]},
            "a day after valid_from",
        ),
        ({"time_zone": "Mars/Olympus"}, "time_zone.*Europe/Berlin"),
        ({"active_below": "1"}, "active_below.*percentage"),
        ({"currency": "dollars"}, "currency.*USD"),
        ({"budgets": [{"name": "a", "monthly": 1}, {"name": "a", "monthly": 1}]}, "each name once"),
        ({"budgets": [{"name": "a", "monthly": 0}]}, "an amount above 0"),
        ({"pricess": []}, "pricess"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        costs(**keys)


def test_no_price_is_built_in() -> None:
    assert costs(prices=[]).prices == ()


def test_a_file_without_the_section_is_told_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "costs.yaml"
    path.write_text("prices: []\n")
    with pytest.raises(ConfigError, match="the section `cost`"):
        read_costs(str(path))


@pytest.mark.parametrize("keys", [{"country": "XXX"}, {"nodes": [{"match": "*", "country": "D"}]}])
def test_a_country_without_an_intensity_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="ISO 3166-1"):
        biller_of(costs(**keys))


def test_percentages_are_parts() -> None:
    assert [fraction("30%"), fraction("0.5 %")] == [0.3, 0.005]


def test_the_example_is_valid_and_names_each_kind_of_price() -> None:
    found = read_costs(str(Path(__file__).parents[2] / "examples/fleet/costs.yaml"))
    biller_of(found)
    assert any(one.owned for one in found.prices)
    assert any(one.valid_until for one in found.prices)
