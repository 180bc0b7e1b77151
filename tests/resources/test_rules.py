"""Rules make resources: selectors, names, forms and what is refused."""

from operator import is_
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.errors import ConfigError
from deviceplugin.model import FaultClass, Inventory, Isolation, ResourceName
from deviceplugin.resources.plan import list_bytes
from deviceplugin.resources.rules import rules_that_decide
from deviceplugin.resources.section import MAX_REPLICAS
from deviceplugin.resources.shares import replicas_bytes, slices_bytes
from tests.resources.builders import GIB, gpu, instance, inventory, sharing

MEMORY_32MI = ResourceName("nvidia.com/gpu-memory-32mi")
A100 = gpu(0)
T4 = gpu(1, 15, product="Tesla T4", driver="nvidia")
AMD = gpu(2, 192, vendor="amd", id="0000:63:00.0", product="MI300X", resource="amd.com/gpu")
NODE = inventory(A100, T4)


def sizes(*rules: Any, devices: Inventory = NODE, **sections: Any) -> dict[str, int]:
    plan = sharing(*rules, **sections).plan(devices)
    return {name: len(resource.devices) for name, resource in plan.resources.items()}


def test_without_rules_every_device_is_offered_as_its_vendor_names_it() -> None:
    assert sizes() == {"nvidia.com/gpu": 2}


@pytest.mark.parametrize(
    ("match", "hidden"),
    [
        ({"vendor": "nvidia"}, 2),
        ({"vendor": "amd"}, 0),
        ({"product": "*A100*"}, 1),
        ({"product": ["*V100*", "Tesla T?"]}, 1),
        ({"uuid": T4.id}, 1),
        ({"pci_address": "0000:01:*"}, 1),
        ({"index": 0}, 1),
        ({"index": [0, 1]}, 2),
        ({"memory": {"min": "40GiB"}}, 1),
        ({"memory": {"max": "16GiB"}}, 1),
        ({"memory": {"min": "15GiB", "max": "15GiB"}}, 1),
        ({"profile": "1g.*"}, 0),
        ({"driver": "nvidia"}, 2),
        ({"driver": "vfio-pci"}, 0),
        ({"resource": "nvidia.com/gpu"}, 2),
        ({"vendor": "nvidia", "index": 1, "product": "*A100*"}, 0),
    ],
    ids=str,
)
def test_a_selector_picks_devices(match: dict[str, Any], hidden: int) -> None:
    assert sizes({"match": match, "offers": ["exclude"]}).get("nvidia.com/gpu", 0) == 2 - hidden


def test_the_first_rule_that_fits_wins() -> None:
    rules = (
        {"match": {"product": "*A100*"}, "offers": [{"whole": True, "name": "nvidia.com/a100"}]},
        {"offers": [{"replicas": 4}]},
    )
    assert sizes(*rules) == {"nvidia.com/a100": 1, "nvidia.com/gpu": 4}


def test_a_rule_with_a_count_takes_the_first_devices_only() -> None:
    assert sizes({"count": 1, "offers": [{"replicas": 3, "name": "x.y/shared"}]}) == {
        "nvidia.com/gpu": 1,
        "x.y/shared": 3,
    }


def test_replicas_are_named_by_the_device_and_a_number() -> None:
    plan = sharing({"offers": [{"replicas": 2}]}).plan(inventory(A100))
    entries = plan.resources[ResourceName("nvidia.com/gpu")].devices
    assert [entry.id for entry in entries] == [f"{A100.id}::0", f"{A100.id}::1"]
    assert {entry.device for entry in entries} == {A100.id}


def test_replicas_beside_other_forms_have_a_name_of_their_own() -> None:
    rule = {"offers": ["whole", {"replicas": 2}, {"memory": {}}]}
    assert sizes(rule, devices=inventory(A100)) == {
        "nvidia.com/gpu": 1,
        "nvidia.com/gpu.shared": 2,
        "nvidia.com/gpu-memory": 80,
    }


@pytest.mark.parametrize(
    ("vendor", "unit", "name"),
    [
        ("nvidia", "1GiB", "nvidia.com/gpu-memory"),
        ("amd", "1GiB", "amd.com/gpu-memory"),
        ("intel", "1024MiB", "intel.com/gpu-memory"),
        ("nvidia", "256MiB", "nvidia.com/gpu-memory-256mi"),
        ("nvidia", "512MiB", "nvidia.com/gpu-memory-512mi"),
        ("amd", "2GiB", "amd.com/gpu-memory-2gi"),
        ("acme", "1GiB", "gpus.acme.org/gpu-memory"),
    ],
)
def test_a_unit_other_than_a_gib_stands_in_the_name(vendor: str, unit: str, name: str) -> None:
    device = gpu(0, vendor=vendor, resource=ResourceName("gpus.acme.org/gpu"))
    assert list(sizes({"offers": [{"memory": {"unit": unit}}]}, devices=inventory(device))) == [
        name
    ]


@pytest.mark.parametrize(
    ("gib", "count", "unit", "slices"),
    [(80, 8, "1GiB", 640), (192, 8, "256MiB", 6144), (15.9, 1, "1GiB", 15), (0.5, 1, "1GiB", 0)],
)
def test_memory_is_handed_out_in_whole_units(
    gib: float, count: int, unit: str, slices: int
) -> None:
    node = inventory(*(gpu(i, gib) for i in range(count)))
    assert sum(sizes({"offers": [{"memory": {"unit": unit}}]}, devices=node).values()) == slices


def test_a_reserve_is_not_handed_out() -> None:
    rule = {"offers": [{"memory": {"reserve": "512MiB"}}]}
    assert sizes(rule, devices=inventory(A100)) == {"nvidia.com/gpu-memory": 79}


def test_a_list_that_passes_the_kubelets_limit_is_refused_with_the_unit_that_fits() -> None:
    node = inventory(*(gpu(i, 192) for i in range(8)))
    plan = sharing({"offers": [{"memory": {"unit": "1MiB"}}]}).plan(node)
    assert plan.resources == {}
    (problem,) = plan.problems
    assert "1572864 slices" in problem.reason
    assert problem.action.endswith("32MiB")
    for unit, fits in (("32MiB", True), ("16MiB", False)):
        assert bool(sizes({"offers": [{"memory": {"unit": unit}}]}, devices=node)) is fits


def test_a_size_that_is_computed_is_the_size_of_the_list() -> None:
    device = gpu(0, 30)
    for unit in (GIB, 8 << 20):
        text = f"{unit >> 20}MiB"
        plan = sharing({"offers": [{"memory": {"unit": text}}]}).plan(inventory(device))
        (resource,) = plan.resources.values()
        assert slices_bytes(device, unit, len(resource.devices)) == list_bytes(resource.devices)


def test_a_list_near_the_limit_is_planned_again_from_what_is_there() -> None:
    node = inventory(*(gpu(i, 225) for i in range(8)))
    rules = sharing({"offers": [{"memory": {"unit": "32MiB"}}]})
    first = rules.plan(node)
    again = rules.plan(node, previous=first)
    assert again == first
    known, taken = (plan.resources[MEMORY_32MI].devices for plan in (first, again))
    assert len(taken) == 57600
    assert all(map(is_, taken, known))  # no id was made anew


def test_a_rule_is_about_whole_gpus_unless_it_speaks_of_partitions() -> None:
    parent = gpu(0, resource=None)
    node = inventory(parent, instance(parent, 0), instance(parent, 1, "2g.20gb"))
    assert sizes({"offers": [{"replicas": 2}]}, devices=node) == {
        "nvidia.com/mig-1g.10gb": 1,
        "nvidia.com/mig-2g.20gb": 1,
    }
    for match in ({"profile": "1g*"}, {"index": "0:0"}, {"resource": "*1g*"}):
        rule = {"match": match, "offers": [{"replicas": 2}]}
        assert sizes(rule, devices=node)["nvidia.com/mig-1g.10gb"] == 2
    assert sizes({"match": {"index": 0}, "offers": ["exclude"]}, devices=node) == {}


def test_a_gpu_for_virtual_machines_is_never_shared() -> None:
    device = gpu(0, shareable=False)
    assert sizes({"offers": [{"replicas": 4}]}, devices=inventory(device)) == {"nvidia.com/gpu": 1}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([{"offers": [{"whole": True, "name": "x.y/gpu"}]}], "several vendors"),
        (
            [{"offers": ["whole", {"replicas": 2, "name": "nvidia.com/gpu"}]}],
            "two forms of one device",
        ),
        (
            [
                {"match": {"index": 0}, "offers": [{"memory": {"unit": "2GiB"}, "name": "x.y/m"}]},
                {"match": {"index": 1}, "offers": [{"memory": {}, "name": "x.y/m"}]},
            ],
            "same amount of memory",
        ),
    ],
    ids=["vendors", "forms", "units"],
)
def test_a_name_that_would_mean_two_things_is_refused(rules: Any, reason: str) -> None:
    amd = (AMD,) if reason == "several vendors" else ()
    plan = sharing(*rules).plan(inventory(A100, T4, *amd))
    assert any(reason in problem.reason for problem in plan.problems)


@pytest.mark.parametrize(
    ("rule", "key", "expected"),
    [
        ({"offers": []}, "rules[0].offers", "at least one form"),
        ({"offers": ["all"]}, "rules[0].offers[0]", "all"),
        ({"offers": [{}]}, "rules[0].offers[0]", "exactly one of"),
        ({"offers": [{"replicas": 1}]}, "rules[0].offers[0].replicas", "from 2"),
        ({"offers": [{"memory": {"unit": "0GiB"}}]}, "rules[0].offers[0].memory.unit", "zero"),
        (
            {"offers": [{"memory": {"unit": "1000"}}]},
            "rules[0].offers[0].memory.unit",
            "whole number",
        ),
        ({"offers": [{"whole": True, "name": "gpu"}]}, "rules[0].offers[0].name", "no domain"),
        (
            {"offers": [{"replicas": 2, "max_per_container": 0}]},
            "rules[0].offers[0].max_per_container",
            "from 1",
        ),
        ({"offers": [{"replica": 2}]}, "rules[0].offers[0].replica", "known key"),
        ({"offers": ["whole"], "match": {"products": "x"}}, "rules[0].match.products", "product"),
        ({"offers": ["whole", "exclude"]}, "rules[0].offers", "exclude alone"),
        ({"offers": ["whole"], "count": 0}, "rules[0].count", "from 1"),
        ({"offers": [{"whole": True, "sharing": "mps"}]}, "rules[0].offers[0]", "offered whole"),
    ],
    ids=str,
)
def test_a_bad_rule_is_told_with_its_key(rule: dict[str, Any], key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as failure:
        sharing(rule)
    assert failure.value.key == key
    assert expected in str(failure.value)


@pytest.mark.parametrize(
    ("offer", "isolation"),
    [
        ("whole", Isolation.HARDWARE),
        ({"replicas": 2}, Isolation.NONE),
        ({"replicas": 2, "sharing": "mps"}, Isolation.NONE),
        ({"memory": {}}, Isolation.NONE),
        ({"memory": {}, "sharing": "mps"}, Isolation.NONE),
    ],
    ids=str,
)
def test_a_resource_declares_what_isolates_its_containers(offer: Any, isolation: Isolation) -> None:
    (resource,) = sharing({"offers": [offer]}).plan(inventory(A100)).resources.values()
    assert resource.isolation is isolation


def test_isolation_that_is_asked_for_refuses_anything_weaker() -> None:
    rule = {
        "offers": ["whole", {"replicas": 2}, {"replicas": 3, "sharing": "mps", "name": "x.y/m"}]
    }
    strict = sharing(rule, isolation="hardware").plan(inventory(A100))
    assert list(strict.resources) == ["nvidia.com/gpu"]
    assert [p.resource for p in strict.problems] == ["nvidia.com/gpu.shared", "x.y/m"]
    assert "isolates by none, the configuration asks for isolation: hardware" in (
        strict.problems[0].reason
    )
    some = sharing(rule, isolation="memory").plan(inventory(A100))
    assert list(some.resources) == ["nvidia.com/gpu"]


def test_ecc_off_on_a_shared_gpu_is_warned_of_and_on_a_whole_one_not() -> None:
    off = gpu(0, ecc=False)
    (fault,) = sharing({"offers": [{"replicas": 2}]}).faults(inventory(off, T4))
    assert (fault.device, fault.code, fault.kind) == (off.id, "ecc_off_shared", FaultClass.WARN)
    assert sharing().faults(inventory(off)) == ()


def test_a_number_of_replicas_that_no_list_can_hold_is_told_before_the_list_is_made() -> None:
    plan = sharing({"offers": [{"replicas": MAX_REPLICAS}]}).plan(NODE)
    assert plan.resources == {}
    (problem,) = plan.problems
    assert "its list of 200000 replicas has" in problem.reason
    assert problem.action == "offer fewer replicas"


@pytest.mark.parametrize("count", [2, 9, 10, 11, 1000])
def test_the_size_of_a_list_of_replicas_is_known_before_it_is_made(count: int) -> None:
    (resource,) = (
        sharing({"offers": [{"replicas": count}]}).plan(inventory(A100)).resources.values()
    )
    assert replicas_bytes(A100, count) == list_bytes(resource.devices)


def test_a_device_of_unknown_memory_fits_no_range() -> None:
    rule = {"match": {"memory": {"min": "1MiB"}}, "offers": ["exclude"]}
    assert sizes(rule, devices=inventory(gpu(0, memory_bytes=None))) == {"nvidia.com/gpu": 1}


def test_devices_are_taken_by_their_number_and_one_without_a_number_is_first() -> None:
    devices = inventory(gpu(0), gpu(1), replace(gpu(2), index=None))
    rules = {"count": 1, "offers": [{"whole": True, "name": "nvidia.com/first"}]}
    plan = sharing(rules).plan(devices)
    (entry,) = plan.resources[ResourceName("nvidia.com/first")].devices
    assert entry.device == gpu(2).id


def test_a_device_that_is_not_offered_uses_up_no_place_of_a_rule_with_a_count() -> None:
    hidden = gpu(0, resource=None)
    rules = sharing(
        {"count": 1, "offers": [{"whole": True, "name": "nvidia.com/first"}]},
        {"offers": [{"replicas": 2}]},
    ).rules
    assert rules_that_decide(inventory(hidden, gpu(1)), rules) == {0}
    assert rules_that_decide(inventory(hidden, gpu(1), gpu(2)), rules) == {0, 1}


@pytest.mark.parametrize(("driver", "found"), [(None, 1), ("vfio-pci", 0)])
def test_the_driver_is_the_vendors_own_unless_the_device_says_otherwise(
    driver: str | None, found: int
) -> None:
    device = gpu(0, vendor="amd", resource=ResourceName("amd.com/gpu"), driver=driver)
    rule = {"match": {"driver": "amd"}, "offers": ["exclude"]}
    assert sizes(rule, devices=inventory(device)).get("amd.com/gpu", 0) == 1 - found


def test_slices_and_whole_devices_are_no_ids_of_one_name() -> None:
    rules: list[dict[str, Any]] = [
        {"match": {"index": 0}, "offers": [{"memory": {}, "name": "nvidia.com/any"}]},
        {"offers": [{"whole": True, "name": "nvidia.com/any"}]},
    ]
    plan = sharing(*rules).plan(NODE)
    (problem,) = plan.problems
    assert problem.reason == "its ids would not all stand for the same amount of memory"
    assert problem.action == "give each unit a name"
    assert plan.resources == {}


def test_replicas_and_whole_devices_may_share_a_name() -> None:
    rules = [
        {"match": {"index": 0}, "offers": [{"replicas": 2, "name": "nvidia.com/any"}]},
        {"offers": [{"whole": True, "name": "nvidia.com/any"}]},
    ]
    assert sizes(*rules) == {"nvidia.com/any": 3}


@pytest.mark.parametrize(
    ("offered", "own", "expected"),
    [(None, None, None), (None, "spread", "spread"), ("packed", "spread", "packed")],
)
def test_the_policy_of_an_offer_comes_before_that_of_the_device(
    offered: str | None, own: str | None, expected: str | None
) -> None:
    rule = {"offers": [{"whole": True, "policy": offered}]}
    (resource,) = sharing(rule).plan(inventory(gpu(0, policy=own))).resources.values()
    assert resource.policy == expected


def test_a_device_without_one_slice_is_told_and_replicas_of_it_are_offered() -> None:
    small = inventory(gpu(0, 0.5))
    (problem,) = sharing({"offers": [{"memory": {}}]}).plan(small).problems
    assert problem.reason == (
        f"GPU {gpu(0).id} (0000:01:00.0) makes no slice of 1GiB: it has 0.5 GiB"
    )
    assert problem.action.endswith(", or use a smaller unit")
    assert sizes({"offers": [{"replicas": 2}]}, devices=small) == {"nvidia.com/gpu": 2}


def test_a_device_of_unknown_memory_has_no_slices_and_no_smaller_unit_would_help() -> None:
    unknown = inventory(gpu(0, memory_bytes=None, pci_address=None))
    (problem,) = sharing({"offers": [{"memory": {}}]}).plan(unknown).problems
    assert problem.reason == f"GPU {gpu(0).id} makes no slice of 1GiB: its memory is unknown"
    assert "smaller unit" not in problem.action


def test_the_unit_that_fits_leaves_room_for_the_reserve() -> None:
    offer = {"memory": {"unit": "1MiB", "reserve": "79GiB"}}
    assert sizes({"offers": [offer]}, devices=inventory(A100)) == {
        "nvidia.com/gpu-memory-1mi": 1024
    }
    devices = inventory(*(gpu(n, 80) for n in range(64)))
    (whole,) = sharing({"offers": [{"memory": {"unit": "1MiB"}}]}).plan(devices).problems
    (less,) = sharing({"offers": [offer]}).plan(devices).problems
    assert (whole.action[-6:], less.action[-4:]) == ("128MiB", "2MiB")


def test_a_device_that_is_shared_in_turns_is_not_isolated() -> None:
    (resource,) = sharing({"offers": [{"replicas": 2}]}).plan(inventory(A100)).resources.values()
    assert resource.isolation is Isolation.NONE


def test_the_strictest_of_the_offers_of_one_name_counts() -> None:
    rules: list[dict[str, Any]] = [
        {
            "match": {"index": 0},
            "offers": [{"replicas": 2, "name": "x.y/z", "distinct": True, "max_per_container": 3}],
        },
        {"offers": [{"replicas": 2, "name": "x.y/z", "max_per_container": 2}]},
    ]
    (resource,) = sharing(*rules).plan(NODE).resources.values()
    assert (resource.distinct, resource.max_per_container) == (True, 2)
