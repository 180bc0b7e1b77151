"""Ids whose device is gone stay listed for as long as a pod may hold them."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.kubelet.retention import Retention
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.ledger import QUIET_S
from deviceplugin.resources.plan import Resources

GPU = ResourceName("example.com/gpu")


class Busy:
    """When ids were last named by an Allocate, in seconds before now."""

    def __init__(self) -> None:
        self.ago_s: dict[str, float] = {}

    def __call__(self, _: ResourceName, device_id: AdvertisedID) -> float | None:
        return self.ago_s.get(device_id)


def plan(*ids: str) -> Resources:
    entries = tuple(
        AdvertisedDevice(id=AdvertisedID(i), device=DeviceID(i), health=Health.HEALTHY) for i in ids
    )
    return {GPU: Resource(name=GPU, vendor="example", devices=entries)} if ids else {}


def held(*ids: str) -> Mapping[ResourceName, Mapping[AdvertisedID, int | None]]:
    return {GPU: dict.fromkeys(map(AdvertisedID, ids))}


def listed(resources: Resources) -> dict[str, str]:
    return {e.id: e.health.value for r in resources.values() for e in r.devices}


def test_a_gone_id_stays_until_two_answers_show_no_holder() -> None:
    retention = Retention(Busy())
    retention.apply(plan("a", "b"))
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy", "b": "Unhealthy"}
    retention.observe(held())
    assert "b" in listed(retention.apply(plan("a")))
    retention.observe(held())
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy"}
    assert not retention.waiting


def test_a_held_id_stays_for_as_long_as_it_is_held() -> None:
    retention = Retention(Busy())
    retention.apply(plan("a"))
    for _ in range(5):
        assert listed(retention.apply(plan())) == {"a": "Unhealthy"}
        retention.observe(held("a"))
    retention.observe(held())
    retention.observe(held())
    assert retention.apply(plan()) == {}


def test_an_id_that_an_allocate_named_lately_stays_although_nobody_seems_to_hold_it() -> None:
    busy = Busy()
    retention = Retention(busy)
    retention.apply(plan("a"))
    busy.ago_s["a"] = QUIET_S - 1
    retention.apply(plan())
    for _ in range(5):
        retention.observe(held())
    assert listed(retention.apply(plan())) == {"a": "Unhealthy"}
    busy.ago_s["a"] = QUIET_S
    retention.observe(held())
    assert retention.apply(plan()) == {}


def test_a_device_that_comes_back_is_itself_again() -> None:
    retention = Retention(Busy())
    retention.apply(plan("a"))
    retention.apply(plan())
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy"}
    assert not retention.waiting


def test_an_id_held_since_before_our_time_is_listed_unhealthy() -> None:
    retention = Retention(Busy())
    retention.apply(plan("a"))
    retention.observe({GPU: {AdvertisedID("old"): 1}, ResourceName("other.com/x"): {}})
    resources = retention.apply(plan("a"))
    assert listed(resources) == {"a": "Healthy", "old": "Unhealthy"}
    assert [e.numa_node for e in resources[GPU].devices] == [None, 1]


def test_an_id_that_the_kubelet_told_of_before_the_first_list_is_in_it() -> None:
    retention = Retention(Busy())
    retention.observe(held("a", "old"))
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy", "old": "Unhealthy"}
    for _ in range(2):
        retention.observe(held("a"))
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy"}


def test_ids_of_resources_that_are_not_ours_are_none_of_our_business() -> None:
    retention = Retention(Busy())
    retention.apply(plan("a"))
    retention.observe({ResourceName("other.com/x"): {AdvertisedID("x"): None}})
    assert listed(retention.apply(plan("a"))) == {"a": "Healthy"}


IDS = st.sets(st.sampled_from("ab"))


@given(named=IDS, steps=st.lists(st.tuples(st.booleans(), IDS), min_size=4))
def test_no_id_goes_that_a_pod_may_hold(
    named: set[str], steps: list[tuple[bool, set[str]]]
) -> None:
    busy = Busy()
    busy.ago_s = dict.fromkeys(named, QUIET_S - 1)
    retention = Retention(busy)
    answers: list[set[str]] = []
    planned: set[str] = set()
    before: set[str] = set()
    for answered, ids in steps:
        if answered:
            answers.append(ids)
            retention.observe(held(*ids))
        else:
            planned = ids
        now = set(listed(retention.apply(plan(*sorted(planned)))))
        assert planned <= now
        for gone in before - now:
            assert len(answers) >= 2
            assert gone not in answers[-1] | answers[-2] | named
        before = now
