"""Plans: who used what, what is expected, when it is full, and what would change it."""

from functools import cache
from typing import Any

import pytest

from deviceplugin.documents.operations import Planning, ResourcePlanning
from deviceplugin.errors import ConfigError
from deviceplugin.fleet.asked import asked_of
from deviceplugin.fleet.plan import Asked, WhatIf, plan_document
from deviceplugin.fleet.plan_text import plan_text
from tests.fleet.examples import H100, answers, fleet, series, swing

NOTHING = WhatIf()


@cache
def planned(asked: Asked, what_if: WhatIf) -> dict[str, Any]:
    """The same plan is made once."""
    return plan_document(fleet(), asked, what_if)


def row(document: dict[str, Any], *who: str) -> dict[str, Any]:
    (found,) = [r for r in document["rows"] if (r["resource"], r["vendor"], r["namespace"]) == who]
    one: dict[str, Any] = found
    return one


def test_use_is_summed_by_vendor_and_told_by_namespace() -> None:
    found = {(d.resource, d.vendor, d.namespace): d for d in fleet().demands}
    last = 30 * 24 - 1
    total = found["gpu", "nvidia", "all"].used.values[-1]
    assert total == pytest.approx(swing(last) + last / 120)
    assert found["gpu", "nvidia", "ml"].used.values[-1] == pytest.approx(swing(last))
    assert found["gpu", "nvidia", "all"].capacity == 16


def test_gpus_that_nobody_has_are_known_to_be_unused() -> None:
    found = {(d.resource, d.vendor, d.namespace): d for d in fleet().demands}
    assert set(found["gpu", "amd", "all"].used.values) == {0.0}


def test_without_names_of_pods_use_is_not_known_and_not_zero() -> None:
    told = answers()
    del told["gpu_used"]
    document = plan_document(fleet(told), Asked(), NOTHING)
    found = row(document, "gpu", "nvidia", "all")
    assert found["now"] is None
    assert found["points"] == []
    assert "0 hours are known" in found["reason"]


def test_what_the_store_does_not_have_is_no_data() -> None:
    document = planned(Asked(), NOTHING)
    assert document["no_data"] == ["partition", "network", "storage"]
    assert "storage: no data" in plan_text(document)


def test_a_namespace_that_is_new_has_no_forecast() -> None:
    told = answers()
    new = series({"vendor": "nvidia", "namespace": "new"}, lambda _: 1.0, days=1)
    told["gpu_used"] = (*told["gpu_used"], new)
    found = row(plan_document(fleet(told), Asked(), NOTHING), "gpu", "nvidia", "new")
    assert found["reason"] == "24 hours are known, a forecast needs 48"


def test_more_gpus_make_it_full_later_and_a_node_less_earlier() -> None:
    def full(what_if: WhatIf) -> float:
        found = row(planned(Asked(), what_if), "gpu", "nvidia", "all")
        when = found["saturation"]
        return float("inf") if when["early"] is None else when["early"]

    as_it_is, fewer = full(NOTHING), full(WhatIf(remove=("n2",)))
    assert fewer < as_it_is
    assert full(WhatIf(add=("2xH100",), remove=("n2",))) >= fewer
    assert full(WhatIf(growth=1.0)) <= as_it_is


def test_what_is_added_brings_its_memory() -> None:
    document = planned(Asked(), WhatIf(add=("2xH100",)))
    assert row(document, "gpu", "nvidia", "all")["capacity"] == 18
    assert row(document, "memory", "nvidia", "all")["capacity"] == pytest.approx(18 * 80e9)


@pytest.mark.parametrize("text", ["H100", "2xB200", "x", "2x"])
def test_a_model_that_is_not_there_is_one_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--add") as caught:
        planned(Asked(), WhatIf(add=(text,)))
    assert H100 in str(caught.value)


def test_a_node_that_is_not_there_is_one_error() -> None:
    with pytest.raises(ConfigError, match="n1, n2, n3:8080"):
        planned(Asked(), WhatIf(remove=("n9",)))


def test_an_accuracy_is_answered_with_what_was_measured() -> None:
    document = planned(Asked(accuracy=95.0), NOTHING)
    answer = row(document, "gpu", "nvidia", "all")["accuracy_answer"]
    assert answer.startswith("95 %: ")
    assert answer in plan_text(document)


def test_too_little_is_a_recommendation_to_add() -> None:
    document = planned(Asked(), WhatIf(remove=("n2",)))
    kinds = {(one["resource"], one["vendor"]): one["kind"] for one in document["recommendations"]}
    assert kinds["gpu", "nvidia"] == "add"
    assert kinds["gpu", "amd"] == "spare"
    assert "nvidia gpu: add" in plan_text(document)


def test_points_are_as_far_apart_as_asked() -> None:
    document = planned(Asked(horizon_h=48, granularity_h=6), NOTHING)
    points = row(document, "gpu", "nvidia", "all")["points"]
    assert [point["ahead_h"] for point in points] == list(range(6, 49, 6))


def test_the_section_resource_planning_is_what_is_asked() -> None:
    planning = Planning(horizon="7d", granularity="1h", accuracy="95%")
    words = ("gpu_allocation", "memory_allocation")
    found = asked_of(ResourcePlanning(planning=planning, recommendations=words))
    assert (found.horizon_h, found.granularity_h, found.accuracy) == (168, 1, 95.0)
    assert found.resources == ("gpu", "partition", "memory")


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (ResourcePlanning(planning=Planning(horizon="90d")), "planning.horizon"),
        (ResourcePlanning(planning=Planning(horizon="1y")), "planning.horizon"),
        (ResourcePlanning(planning=Planning(granularity="1m")), "planning.granularity"),
        (ResourcePlanning(recommendations=("cpu_allocation",)), "recommendations"),
        (ResourcePlanning(enabled=False), "enabled"),
    ],
)
def test_what_no_plan_can_be_is_one_error(section: ResourcePlanning, key: str) -> None:
    with pytest.raises(ConfigError, match=f"resource_planning.{key}"):
        asked_of(section)
