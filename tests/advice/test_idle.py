"""Idle: engines, memory and power together; three windows; what is not measured is not idle."""

from typing import Any

import pytest

from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.idling import level
from deviceplugin.cost.history import History, Readings
from tests.advice.examples import DAY, adviser, fleet, hourly, of_kind
from tests.cost.examples import H100, cell, grant, history

FREE = [cell(of="GPU-1", hour=hour, readings=Readings(power_watts=70.0)) for hour in range(48)]
IDLE: dict[str, Any] = {"active": 0.0, "copying": 0.0}


def notebook(hours: int, work: int, watts: float = 72.0, **keys: Any) -> History:
    """A notebook that works for a while, beside a GPU that nobody has."""
    own = [
        cell(
            grant("nb", **({"active": 0.6, "copying": 0.3} if hour < work else IDLE | keys)),
            hour=hour,
            readings=Readings(power_watts=400.0 if hour < work else watts),
        )
        for hour in range(hours)
    ]
    return fleet(own, FREE[:hours], gpus=2)


@pytest.mark.parametrize(
    ("seconds", "word"), [(899, ""), (900, "info"), (3600, "waste"), (86400, "report")]
)
def test_there_are_three_windows(seconds: float, word: str) -> None:
    assert level(seconds) == word


def test_an_idle_notebook_is_reported_and_its_waste_begins_after_an_hour() -> None:
    (one,) = of_kind(adviser(notebook(40, 10)).advice(), "idle")
    assert (one.evidence["level"], one.evidence["wasted_hours"]) == ("report", 29.0)
    assert one.evidence["idle_now"] == {"nb on GPU-0": 30.0}
    assert one.saving is not None
    assert (one.saving.gpu_hours, one.saving.freed) == (29.0, 87.0)


def test_what_was_idle_and_works_again_wasted_what_it_did() -> None:
    cells = [
        cell(
            grant("nb", **(IDLE if 5 <= hour < 10 else {"active": 0.6, "copying": 0.3})), hour=hour
        )
        for hour in range(20)
    ]
    powered = [
        cell(*one.grants, hour=n, readings=Readings(power_watts=71.0 if 5 <= n < 10 else 400.0))
        for n, one in enumerate(cells)
    ]
    (one,) = of_kind(adviser(fleet(powered, FREE[:20], gpus=2)).advice(), "idle")
    assert (one.evidence["level"], one.evidence["wasted_hours"]) == (None, 4.0)


@pytest.mark.parametrize(
    "keys", [{"active": 0.02}, {"copying": 0.02}], ids=["engines work", "memory works"]
)
def test_what_works_in_any_way_is_not_idle(keys: dict[str, float]) -> None:
    assert of_kind(adviser(notebook(40, 10, **keys)).advice(), "idle") == []


def test_power_far_above_that_of_a_free_gpu_is_not_idle() -> None:
    assert of_kind(adviser(notebook(40, 10, watts=90.0)).advice(), "idle") == []


def test_idle_power_is_that_of_gpus_that_nobody_has() -> None:
    assert IdleJudge(notebook(40, 10)).idle_watts == {H100: 70.0}


@pytest.mark.parametrize("keys", [{"active": None}, {"copying": None}])
def test_what_is_not_measured_is_not_known_to_be_idle(keys: dict[str, Any]) -> None:
    found = adviser(notebook(40, 10, **keys)).advice()
    assert of_kind(found, "idle") == []
    assert any("memory activity" in o.text or "engine activity" in o.text for o in found)


def test_without_a_free_gpu_the_idle_power_is_not_known() -> None:
    own = [
        cell(grant("nb", **IDLE), hour=h, readings=Readings(power_watts=70.0)) for h in range(40)
    ]
    found = adviser(history(*own)).advice()
    assert of_kind(found, "idle") == []
    assert any("idle power of the model" in one.text for one in of_kind(found, "unknown"))


def test_interactive_workloads_may_be_idle() -> None:
    assert of_kind(adviser(notebook(40, 10), interactive=["ml/n*"]).advice(), "idle") == []


def test_a_pod_that_is_young_may_still_load() -> None:
    first = cell(grant("nb", **IDLE), hours=0.25, readings=Readings(power_watts=70.0))
    free = cell(of="GPU-1", hours=0.25, readings=Readings(power_watts=70.0))
    assert of_kind(adviser(fleet([first, free], gpus=2)).advice(), "idle") == []


def test_days_of_work_are_never_idle() -> None:
    busy = hourly(lambda hour: grant("b", copying=0.3), days=3, power_watts=600.0)
    found = adviser(fleet(busy, FREE, gpus=2)).advice()
    assert of_kind(found, "idle") == []
    assert len(busy) == 3 * DAY
