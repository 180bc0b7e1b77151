"""Slices of memory that come with a part of the compute."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.cli.tables import report_text
from deviceplugin.errors import AllocationError, ConfigError
from deviceplugin.labels.labels import isolation_labels
from deviceplugin.model import AdvertisedDevice, AdvertisedID, Device, DeviceID, Health, frozen
from deviceplugin.resources.compute import ComputeShare
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.grants import granted
from deviceplugin.resources.ledger import Ledger, UsageSource
from deviceplugin.resources.metrics import SharingCollector
from deviceplugin.resources.plan import Plan, Sharing
from deviceplugin.resources.report import report
from deviceplugin.resources.section import SharingSection
from deviceplugin.vendors.amd.compute import VARIABLE, mask_edits
from tests.resources.builders import gpu, inventory, sharing

UNITS = 104
QUARTERS = {"memory": {"unit": "4GiB"}, "compute": "25%"}
NAME = "amd.com/gpu-memory-4gi"
NEVER_ASKED = cast("UsageSource", None)


def card(index: int = 0, units: int | None = UNITS, **changed: Any) -> Device:
    """An AMD GPU of 16 GiB."""
    known = {} if units is None else {"compute_units": str(units)}
    values: dict[str, Any] = {
        "id": DeviceID(f"card-{index}"),
        "vendor": "amd",
        "resource": "amd.com/gpu",
        "attributes": frozen(known),
        "architecture": "gfx90a",
    }
    return gpu(index, 16, **(values | changed))


def planned(offer: Any, *devices: Device, **sections: Any) -> Plan:
    return sharing({"offers": [offer]}, **sections).plan(inventory(*devices))


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        ({"memory": {}, "compute": "0%"}, "from 1% to 100% such as 25%"),
        ({"memory": {}, "compute": "101%"}, "from 1% to 100% such as 25%"),
        ({"memory": {}, "compute": "a quarter"}, "from 1% to 100% such as 25%"),
        ({"replicas": 4, "compute": "25%"}, "only beside memory"),
        ({"whole": True, "compute": "25%"}, "only beside memory"),
    ],
    ids=["none", "more than all", "no number", "replicas", "whole"],
)
def test_what_is_no_part_of_the_compute_is_one_error(offer: Any, said: str) -> None:
    with pytest.raises(ConfigError, match="compute") as error:
        sharing({"offers": [offer]})
    assert said in str(error.value)


def test_slices_that_would_have_more_than_all_of_the_compute_are_not_offered() -> None:
    plan = planned({"memory": {"unit": "2GiB"}, "compute": "25%"}, card())
    (problem,) = plan.problems
    assert not plan.resources
    assert "makes 8 slices of 2GiB, each with 25% of its compute" in problem.reason
    assert problem.action == (
        "write compute: 12% or less, or a larger unit: at most 4 slices have so much"
    )


def test_unlike_parts_under_one_name_are_not_offered() -> None:
    rules = [
        {"match": {"uuid": f"card-{n}"}, "offers": [{**QUARTERS, "compute": f"{10 + n}%"}]}
        for n in (0, 1)
    ]
    plan = sharing(*rules).plan(inventory(card(0), card(1)))
    assert "same part of the compute" in plan.problems[0].reason
    assert not plan.resources


def test_each_id_says_the_part_so_that_another_part_is_another_id() -> None:
    resource = planned(QUARTERS, card()).resources[cast("Any", NAME)]
    assert [entry.id for entry in resource.devices] == [f"card-0-4gi-c25-m{n}" for n in range(4)]
    one = planned({"memory": {"unit": "1GiB"}, "compute": "6%"}, card())
    (resource,) = one.resources.values()
    assert resource.devices[0].id == "card-0-c6-m0"


@pytest.mark.parametrize(
    ("device", "sections", "level", "reason"),
    [
        (card(), {}, "cooperative", ""),
        (card(units=None), {}, "none", "the number of compute units of card-0 is unknown"),
        (card(vendor="intel"), {}, "none", "its vendor knows no limit on compute"),
        (card(vendor="nvidia"), {}, "none", "neither MPS nor HAMi-core is used"),
        (
            card(vendor="nvidia"),
            {"enforcement": {"nvidia": {"library": "/opt/vgpu/libvgpu.so"}}},
            "cooperative",
            "",
        ),
    ],
    ids=["amd", "amd of unknown size", "intel", "nvidia", "nvidia with HAMi-core"],
)
def test_what_holds_a_part_of_the_compute_is_said_with_the_reason(
    device: Device, sections: Any, level: str, reason: str
) -> None:
    plan = planned(QUARTERS, device, **sections)
    ((name, share),) = plan.compute.items()
    assert share == ComputeShare(percent=25, level=level, reason=reason)
    assert plan.resources[name].compute == level


def test_mps_holds_programs_to_their_part() -> None:
    plan = planned({**QUARTERS, "sharing": "mps"}, card(vendor="nvidia"))
    assert [share.level for share in plan.compute.values()] == ["cooperative"]


def test_discover_labels_and_metrics_say_the_part_and_its_level() -> None:
    node = inventory(card(units=None))
    plan = sharing({"offers": [QUARTERS]}).plan(node)
    document = report("node-1", node, plan)
    assert document["sharing"][NAME] == {
        "isolation": "none",
        "max_per_container": None,
        "distinct": False,
        "compute_percent": 25,
        "compute": "none",
        "compute_not_held": "the number of compute units of card-0 is unknown",
    }
    line = f"{NAME}: compute of each slice 25%, level none: the number of compute units of card-0"
    assert line in report_text(document)
    assert isolation_labels(plan.resources) == {
        f"{NAME}.isolation": "none",
        f"{NAME}.compute": "none",
    }
    found = {f.name: f for f in SharingCollector(lambda: plan, tuple).collect()}
    assert "deviceplugin_resource_compute_percent" in found


def test_without_compute_nothing_speaks_of_it() -> None:
    node = inventory(card())
    plan = sharing({"offers": [{"memory": {"unit": "4GiB"}}]}).plan(node)
    assert "compute" not in str(report("node-1", node, plan)["sharing"])
    assert isolation_labels(plan.resources) == {f"{NAME}.isolation": "none"}
    names = [f.name for f in SharingCollector(lambda: plan, tuple).collect()]
    assert "deviceplugin_resource_compute_percent" not in names


def test_a_container_is_told_its_percent_and_which_slices_it_has() -> None:
    plan = planned(QUARTERS, card())
    (resource,) = plan.resources.values()
    entries = [resource.devices[1], resource.devices[3]]
    made = granted(resource, entries, {card().id: card()}, SharingSection())
    assert made.edits.env["GPU_SHARE_COMPUTE_PERCENT"] == "card-0=50"
    assert (made.grants[0].percent, made.grants[0].numbers) == (50, (1, 3))


# Three configurations of one name: another part, and another unit with another part.
CONFIGURATIONS = tuple(
    sharing({"offers": [{"name": "amd.com/part", "memory": {"unit": unit}, "compute": part}]})
    for unit, part in (("4GiB", "25%"), ("4GiB", "13%"), ("2GiB", "12%"))
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("use"), st.integers(0, 2), st.just(0)),
    ),
    max_size=25,
)


class Node:
    """Two GPUs; pods hold ids until they are removed, whatever the configuration is by then."""

    def __init__(self, units: int, architecture: str) -> None:
        devices = (card(n, units, architecture=architecture) for n in (0, 1))
        self.inventory = inventory(*devices)
        self.ledger = Ledger(lambda: 1.0)
        self.guard = FormGuard(self.ledger, NEVER_ASKED, dict, lambda: self.inventory.devices)
        self.pods: dict[int, tuple[Sequence[AdvertisedID], Mapping[DeviceID, set[int]]]] = {}
        self.use(CONFIGURATIONS[0])

    def use(self, settings: Sharing) -> None:
        self.settings = settings
        self.ledger.look_up(settings.ids(self.inventory))

    def create(self, number: int, at: int, count: int) -> None:
        plan = self.settings.plan(self.inventory, self.ledger.usage.value)
        (resource,) = plan.resources.values()
        taken = {held for ids, _ in self.pods.values() for held in ids}
        free = [
            entry
            for entry in resource.devices
            if entry.device == f"card-{at}" and entry.id not in taken
            if entry.health is Health.HEALTHY
        ]
        if len(free) >= count:
            # The kubelet gives any that are free.
            self._admit(number, resource, free[::-1][:count])

    def _admit(self, number: int, resource: Any, entries: Sequence[AdvertisedDevice]) -> None:
        self.guard._check_forms(resource, entries)
        devices = self.inventory.devices
        made = granted(resource, entries, devices, SharingSection())
        mask = mask_edits(made.grants).env[VARIABLE]
        ids = [entry.id for entry in entries]
        with self.ledger.reserving(resource.name, ids):
            self.pods[number] = (ids, {entries[0].device: units_of(mask)})

    def remove(self, number: int) -> None:
        if number in self.pods:
            ids, _ = self.pods.pop(number)
            self.ledger.give_back([(cast("Any", "amd.com/part"), one) for one in ids], {})

    def check(self, units: int, *, paired: bool) -> None:
        for device in self.inventory.devices:
            masks = [held[device] for _, held in self.pods.values() if device in held]
            every = [unit for mask in masks for unit in mask]
            assert len(set(every)) == len(every) <= units
            assert all(0 <= unit < units for unit in every)
            assert not paired or all({unit ^ 1} <= set(every) for unit in every)


def units_of(mask: str) -> set[int]:
    _, _, ranges = mask.partition(":")
    bounds = (one.split("-") for one in ranges.split(","))
    return {unit for first, last in bounds for unit in range(int(first), int(last) + 1)}


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([(104, "gfx90a"), (38, "gfx942"), (96, "gfx1100"), (30, "gfx1201")]))
def test_units_of_pods_never_overlap_whatever_comes_and_goes(
    steps: list[tuple[str, int, int]], model: tuple[int, str]
) -> None:
    units, architecture = model
    node = Node(units, architecture)
    for number, (step, which, count) in enumerate(steps):
        if step == "create":
            node.create(number, which, count)
        elif step == "remove":
            node.remove(which)
        else:
            node.use(CONFIGURATIONS[which])
        node.check(units, paired=architecture.startswith("gfx1"))


def test_while_a_pod_has_its_part_by_another_configuration_nobody_gets_one_of_this() -> None:
    node = Node(UNITS, "gfx90a")
    node.create(0, 0, 1)
    node.use(CONFIGURATIONS[1])
    plan = node.settings.plan(node.inventory, node.ledger.usage.value)
    (resource,) = plan.resources.values()
    of_it = [entry for entry in resource.devices if entry.device == "card-0"]
    assert {entry.health for entry in of_it} == {Health.UNHEALTHY}
    with pytest.raises(AllocationError, match=r"in use as amd\.com/part"):
        node.guard._check_forms(resource, of_it[:1])
    node.remove(0)
    node.create(1, 0, 4)
    assert len(node.pods[1][0]) == 4
