"""A section's `scheduling.isolation`: what isolates its devices less is not offered."""

from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.model import Device, Isolation, ResourceName
from tests.resources.builders import gpu, instance, inventory, sharing

GPU = gpu(0, resource=None)
WHOLE = gpu(1)


def asking(level: Isolation, **changed: Any) -> Device:
    made = instance(GPU, 0, **changed)
    return replace(made, least_isolation=level)


@pytest.mark.parametrize("level", Isolation)
def test_a_partition_of_the_hardware_satisfies_every_level(level: Isolation) -> None:
    plan = sharing().plan(inventory(GPU, asking(level)))
    assert list(plan.resources) == ["nvidia.com/mig-1g.10gb"]


def test_what_isolates_less_is_not_offered_and_the_reason_names_the_key() -> None:
    part = asking(Isolation.HARDWARE, profile="1c.1g.10gb", isolation=Isolation.PROCESS)
    plan = sharing().plan(inventory(GPU, WHOLE, part))
    assert list(plan.resources) == [WHOLE.resource]
    (problem,) = plan.problems
    assert problem.resource == part.resource
    assert problem.reason == (
        "it isolates by process, the configuration asks for scheduling.isolation: hardware"
    )


def test_shares_of_a_partition_isolate_less_and_are_not_offered() -> None:
    rule = {"match": {"profile": "*"}, "offers": [{"replicas": 2}]}
    plan = sharing(rule).plan(inventory(GPU, WHOLE, asking(Isolation.MEMORY)))
    assert list(plan.resources) == ["nvidia.com/gpu"]
    assert [problem.resource for problem in plan.problems] == ["nvidia.com/mig-1g.10gb"]


def test_the_stronger_of_section_and_node_counts() -> None:
    part = asking(Isolation.MEMORY, isolation=Isolation.PROCESS)
    (problem,) = sharing(isolation="hardware").plan(inventory(GPU, part)).problems
    assert problem.reason.endswith("asks for isolation: hardware")


def test_what_is_offered_under_one_name_is_held_to_the_strongest_of_its_devices() -> None:
    name = ResourceName("nvidia.com/one")
    weak = gpu(2, resource=name, isolation=Isolation.NONE)
    plan = sharing().plan(
        inventory(replace(WHOLE, resource=name, least_isolation=Isolation.HARDWARE), weak)
    )
    assert plan.resources == {}
