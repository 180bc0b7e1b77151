"""What is a sign, and who had which when."""

from typing import Any

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.maintenance.signs import NOTED_DAYS, SIGNS, Noted, Observed, read_noted, signs_of

HEAD = "gpu,day,sign\n"


def found(**observed: Any) -> tuple[str, ...]:
    """Of a GPU among four that are well."""
    well: dict[str, Any] = {
        "days": 30.0,
        "growth": {"corrected_errors": 0.0, "pcie_replays": 3.0},
        "highs": {"temperature_celsius": 60.0, "power_watts": 600.0},
        "answered": 1.0,
    }
    others = {f"GPU-{n}": Observed(**well) for n in range(1, 5)}
    signs = signs_of({**others, "GPU-0": Observed(**{**well, **observed})})
    assert not any(signs[gpu] for gpu in others)
    return signs["GPU-0"]


@pytest.mark.parametrize(
    ("observed", "sign"),
    [
        ({"growth": {"corrected_errors": 10.0}}, "corrected_errors"),
        ({"growth": {"uncorrected_errors": 1.0}}, "uncorrected_errors"),
        ({"growth": {"remapped_rows": 1.0}}, "rows_remapped"),
        ({"growth": {"retired_pages": 2.0}}, "rows_remapped"),
        ({"growth": {"link_errors": 1.0}}, "link_replays"),
        ({"growth": {"pcie_replays": 100.0}}, "link_replays"),
        ({"growth": {"throttled_seconds": 30 * 864.0}}, "throttled"),
        ({"answered": 0.98}, "silent"),
        ({"highs": {"temperature_celsius": 66.0}}, "hotter"),
        ({"highs": {"power_watts": 500.0}}, "other_power"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_sign_is_seen(observed: dict[str, Any], sign: str) -> None:
    assert found(**observed) == (sign,)
    assert sign in SIGNS


@pytest.mark.parametrize(
    "observed",
    [
        {},
        {"growth": {"corrected_errors": 9.0, "pcie_replays": 99.0, "throttled_seconds": 800.0}},
        {"growth": {}, "highs": {}, "answered": None},
        {"highs": {"temperature_celsius": 50.0, "power_watts": 570.0}},
        {"days": 0.0, "growth": {"throttled_seconds": 0.0}},
    ],
    ids=["as its peers", "below the bounds", "unknown", "cooler", "not measured"],
)
def test_what_is_no_sign_is_none(observed: dict[str, Any]) -> None:
    assert found(**observed) == ()


def test_replays_that_all_gpus_of_the_node_have_are_no_sign() -> None:
    growth = {"pcie_replays": 5000.0}
    signs = signs_of({f"GPU-{n}": Observed(days=30, growth=growth) for n in range(4)})
    assert not any(signs.values())


def test_two_gpus_are_no_peers_enough() -> None:
    highs = ({"temperature_celsius": 50.0}, {"temperature_celsius": 90.0})
    signs = signs_of({str(n): Observed(days=30, highs=one) for n, one in enumerate(highs)})
    assert not any(signs.values())


def test_a_sign_counts_after_its_day_and_not_for_ever() -> None:
    noted = Noted({"GPU-0": [(100, "silent")]})
    assert noted.before("GPU-0", 100) == frozenset()
    assert noted.before("GPU-0", 101) == {"silent"}
    assert noted.before("GPU-0", 100 + NOTED_DAYS) == {"silent"}
    assert noted.before("GPU-0", 101 + NOTED_DAYS) == frozenset()
    assert noted.before("GPU-1", 101) == frozenset()


def test_signs_are_read_from_a_file() -> None:
    noted = read_noted(HEAD + "g,2025-01-02,silent\ng,2025-01-01,throttled\n", "signs.csv")
    (first, second) = noted.days["g"]
    assert (first[1], second[1]) == ("throttled", "silent")
    assert second[0] == first[0] + 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu,day\n", "sign is missing"),
        (HEAD + "g,soon,silent\n", "line 2"),
        (HEAD + "g,2025-01-01,rust\n", "rows_remapped"),
        (HEAD + "g\n", "line 2"),
    ],
    ids=["columns", "day", "sign", "short"],
)
def test_a_file_that_is_none_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_noted(text, "signs.csv")
