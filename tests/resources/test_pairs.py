"""Joined resources: memory of that very GPU, whichever the kubelet asks for first."""

import random
from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import AllocationError, ConfigError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Preference,
    Resource,
    ResourceName,
)
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.pairs import PAIR_S, Pairs, splits
from deviceplugin.resources.plan import Plan
from tests.resources.builders import gpu, inventory, sharing

VENDORS = ("nvidia", "amd", "intel")
JOINED = {"joined": True, "offers": [{"replicas": 4}, {"memory": {}}]}


def gpus(vendor: str, *sizes_gib: int) -> list[Device]:
    name = ResourceName(f"{vendor}.com/gpu")
    return [
        gpu(n, size, vendor=vendor, resource=name, id=DeviceID(f"{vendor}-{n}"))
        for n, size in enumerate(sizes_gib)
    ]


class Node:
    """A kubelet's choices of one vendor's joined resources; `now` is moved by tests."""

    def __init__(self, vendor: str, *sizes_gib: int) -> None:
        self.now = 1000.0
        self.inventory = inventory(*gpus(vendor, *sizes_gib))
        self.sharing = sharing(JOINED)
        self.ledger = Ledger(lambda: self.now)
        self.ledger.look_up(self.sharing.ids(self.inventory))
        self.gpu = ResourceName(f"{vendor}.com/gpu")
        self.memory = ResourceName(f"{vendor}.com/gpu-memory")
        self.pairs = Pairs(
            lambda: self.now, lambda: self.plan.resources, lambda: self.ledger.holders
        )

    @property
    def plan(self) -> Plan:
        return self.sharing.plan(self.inventory, self.ledger.usage.value)

    def free(self, name: ResourceName) -> list[AdvertisedDevice]:
        held = self.ledger.holders.get(name, frozenset())
        listed = self.plan.resources[name].devices
        return [e for e in listed if e.health is Health.HEALTHY and e.id not in held]

    def picked(
        self, name: ResourceName, size: int, dice: random.Random
    ) -> tuple[Resource, list[AdvertisedDevice]]:
        """As a policy picks that knows nothing of pairs: some GPU that has enough."""
        resource = self.plan.resources[name]
        available = frozenset(entry.id for entry in self.free(name))
        asked = Preference(available=available, must_include=frozenset(), size=size)
        ids = self.pairs.narrowed(resource, asked).available
        sensible = [entry for entry in resource.devices if entry.id in ids]
        counts = Counter(entry.device for entry in sensible)
        enough = sorted(device for device, count in counts.items() if count >= size)
        if not enough:
            return resource, []
        device = dice.choice(enough)
        return resource, dice.sample([e for e in sensible if e.device == device], size)

    def admit(self, size_gib: int, order: Collection[str], dice: random.Random) -> set[DeviceID]:
        """The GPUs of both halves; AllocationError, or AssertionError where nothing is free."""
        devices = set()
        for name in (ResourceName(text) for text in order):
            resource, entries = self.picked(name, size_gib if name == self.memory else 1, dice)
            assert entries
            self.give(resource, entries)
            devices |= {entry.device for entry in entries}
        return devices

    def give(self, resource: Resource, entries: list[AdvertisedDevice]) -> None:
        self.pairs.check(resource, entries)
        with self.ledger.reserving(resource.name, [entry.id for entry in entries]):
            pass
        self.pairs.given(resource, entries)

    def fits(self, size_gib: int) -> bool:
        memory = Counter(entry.device for entry in self.free(self.memory))
        replicas = {entry.device for entry in self.free(self.gpu)}
        return any(memory[device] >= size_gib for device in replicas)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(VENDORS),
    st.lists(st.integers(4, 40), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10**6)), max_size=12),
)
def test_every_pair_is_of_one_gpu_and_is_had_where_any_gpu_has_enough(
    vendor: str, sizes: list[int], pods: list[tuple[int, int]]
) -> None:
    node = Node(vendor, *sizes)
    for size, seed in pods:
        dice = random.Random(seed)
        if node.fits(size):
            order = dice.sample([node.gpu, node.memory], 2)
            assert len(node.admit(size, order, dice)) == 1
        node.now += dice.random() * 3


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("first", ["gpu", "memory"])
def test_two_containers_share_a_gpu(vendor: str, first: str) -> None:
    node = Node(vendor, 40)
    order = [node.gpu, node.memory] if first == "gpu" else [node.memory, node.gpu]
    for _ in range(2):
        assert node.admit(16, order, random.Random(1)) == {f"{vendor}-0"}
    assert len(node.free(node.memory)) == 8
    assert len(node.free(node.gpu)) == 2
    assert not node.plan.decided


def test_memory_of_another_gpu_than_the_replicas_is_refused_with_both() -> None:
    node = Node("nvidia", 40, 40)
    resource = node.plan.resources[node.gpu]
    node.give(resource, [e for e in resource.devices if e.device == "nvidia-0"][:1])
    memory = node.plan.resources[node.memory]
    elsewhere = [e for e in memory.devices if e.device == "nvidia-1"][:16]
    text = (
        r"^nvidia\.com/gpu-memory: the container has nvidia\.com/gpu of GPU nvidia-0, and 16 of"
        r" nvidia\.com/gpu-memory would be of GPU nvidia-1: nvidia-0 has not enough free$"
    )
    with pytest.raises(AllocationError, match=text) as refused:
        node.give(memory, elsewhere)
    assert refused.value.refusal is Refusal.PAIR
    node.give(memory, elsewhere)  # of another container: the first one's pod has failed


def test_a_half_that_was_given_long_ago_is_no_half_of_another_container() -> None:
    node = Node("nvidia", 40, 40)
    resource = node.plan.resources[node.gpu]
    node.give(resource, [e for e in resource.devices if e.device == "nvidia-0"][:1])
    node.now += PAIR_S
    memory = node.plan.resources[node.memory]
    node.give(memory, [e for e in memory.devices if e.device == "nvidia-1"][:16])


def test_a_container_of_two_gpus_has_memory_of_any_of_them_and_of_no_other() -> None:
    node = Node("nvidia", 40, 40, 40)
    resource, memory = node.plan.resources[node.gpu], node.plan.resources[node.memory]
    both = [e for e in resource.devices if e.replica == 0 and e.device != "nvidia-2"]
    node.give(resource, both)
    with pytest.raises(AllocationError, match="GPU nvidia-2"):
        node.give(memory, [e for e in memory.devices if e.device == "nvidia-2"][:1])
    node.give(resource, both)
    node.give(memory, [e for e in memory.devices if e.device == "nvidia-1"][:1])


def test_a_container_whose_halves_are_apart_is_told_of() -> None:
    node = Node("nvidia", 40, 40)
    held = [
        (("n", "good", "c"), node.gpu, DeviceID("nvidia-0")),
        (("n", "good", "c"), node.memory, DeviceID("nvidia-0")),
        (("n", "lone", "c"), node.memory, DeviceID("nvidia-1")),
        (("n", "bad", "c"), node.gpu, DeviceID("nvidia-0")),
        (("n", "bad", "c"), node.memory, DeviceID("nvidia-1")),
    ]
    assert splits(held, node.plan.resources) == {
        ("n", "bad", "c"): "nvidia.com/gpu of nvidia-0, nvidia.com/gpu-memory of nvidia-1"
    }


def test_the_names_are_those_that_the_field_knows() -> None:
    assert [*Node("amd", 8).plan.resources] == ["amd.com/gpu", "amd.com/gpu-memory"]
    assert Node("amd", 8).plan.choices == {}


def test_only_the_half_with_the_memory_tells_how_much_a_container_has() -> None:
    """The kubelet keeps one value of each variable, of either half."""
    node = Node("nvidia", 40)
    devices = list(node.inventory.devices.values())
    replica = node.plan.resources[node.gpu]
    grant = node.sharing.granted(replica, replica.devices[:1], devices)
    assert dict(grant.edits.env) == {"GPU_SHARE_ISOLATION": "none"}
    assert grant.grants == ()
    memory = node.plan.resources[node.memory]
    grant = node.sharing.granted(memory, memory.devices[:16], devices)
    assert grant.edits.env["GPU_SHARE_MEMORY_MIB"] == "nvidia-0=16384"


@pytest.mark.parametrize(
    ("offers", "text"),
    [
        (["whole", {"memory": {}}], "found memory, whole"),
        ([{"replicas": 2}], "found replicas"),
        (["exclude"], "found exclude"),
        ([{"replicas": 2}, {"memory": {}}, "whole"], "found memory, replicas, whole"),
        ([{"replicas": 2, "sharing": "mps"}, {"memory": {}}], "must have the sharing time-slicing"),
    ],
    ids=["a whole GPU once", "one alone", "none", "three", "a method of its own"],
)
def test_joined_is_for_replicas_and_memory(offers: list[object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        sharing({"joined": True, "offers": offers})


def test_an_id_is_narrowed_to_nothing_that_the_kubelet_insists_on_losing() -> None:
    node = Node("nvidia", 8, 40)
    resource = node.plan.resources[node.gpu]
    must = frozenset({AdvertisedID("nvidia-0::0")})
    available = frozenset(entry.id for entry in resource.devices)
    asked = Preference(available=available, must_include=must, size=1)
    assert node.pairs.narrowed(resource, asked) == asked


def one_id(plan: Plan, name: ResourceName, number: int = 0) -> list[AdvertisedDevice]:
    return [e for e in plan.resources[name].devices if e.device == f"nvidia-{number}"][:1]


def test_of_replicas_of_several_gpus_the_first_is_named_in_a_refusal() -> None:
    node = Node("nvidia", 8, 8, 8)
    plan = node.plan
    two = [*one_id(plan, node.gpu, 2), *one_id(plan, node.gpu, 1)]
    node.pairs.given(plan.resources[node.gpu], two)
    with pytest.raises(AllocationError) as refused:
        node.pairs.check(plan.resources[node.memory], one_id(plan, node.memory, 0))
    assert str(refused.value) == (
        "nvidia.com/gpu-memory: the container has nvidia.com/gpu of GPU nvidia-1, and 1 of"
        " nvidia.com/gpu-memory would be of GPU nvidia-0: nvidia-1 has not enough free"
    )


def test_ids_that_are_unhealthy_or_held_are_not_free_for_the_other_half() -> None:
    node = Node("nvidia", 8, 8)
    plan = node.plan
    memory = plan.resources[node.memory]
    sick = [replace(e, health=Health.UNHEALTHY) for e in memory.devices if e.device == "nvidia-0"]
    well = [e for e in memory.devices if e.device == "nvidia-1"]
    listed = {**plan.resources, node.memory: replace(memory, devices=(*sick, *well))}
    pairs = Pairs(lambda: 0.0, lambda: listed, dict)
    replicas = plan.resources[node.gpu]
    available = frozenset(e.id for e in replicas.devices)
    asked = Preference(available=available, must_include=frozenset(), size=1)
    assert {i.partition("::")[0] for i in pairs.narrowed(replicas, asked).available} == {"nvidia-1"}
    taken = frozenset(e.id for e in well)
    pairs = Pairs(lambda: 0.0, lambda: listed, lambda: {node.memory: taken})
    assert pairs.narrowed(replicas, asked) == asked


def test_a_gpu_with_one_free_share_is_enough_for_memory_and_the_one_with_most_for_a_replica() -> (
    None
):
    node = Node("nvidia", 8, 8)
    plan = node.plan
    memory, replicas = plan.resources[node.memory], plan.resources[node.gpu]
    held = {
        node.gpu: {e.id for e in replicas.devices if e.device == "nvidia-0"}
        - {one_id(plan, node.gpu)[0].id},
        node.memory: {one_id(plan, node.memory)[0].id},
    }
    pairs = Pairs(lambda: 0.0, lambda: plan.resources, lambda: held)

    def narrowed(resource: Resource, size: int) -> set[str]:
        available = frozenset(e.id for e in resource.devices)
        asked = Preference(available=available, must_include=frozenset(), size=size)
        ids = pairs.narrowed(resource, asked).available
        return {e.device for e in resource.devices if e.id in ids}

    assert narrowed(memory, 1) == {"nvidia-0", "nvidia-1"}
    assert narrowed(replicas, 1) == {"nvidia-1"}
    assert narrowed(replicas, 2) == {"nvidia-0", "nvidia-1"}


def test_a_half_is_open_for_two_seconds_and_no_longer() -> None:
    node = Node("nvidia", 8, 8)
    plan = node.plan
    node.pairs.given(plan.resources[node.gpu], one_id(plan, node.gpu))
    node.now += PAIR_S
    node.pairs.check(plan.resources[node.memory], one_id(plan, node.memory, 1))


def test_splits_are_of_joined_resources_that_are_served_alone() -> None:
    resources = Node("nvidia", 8, 8).plan.resources
    plain = sharing({"offers": [{"replicas": 2, "name": "nvidia.com/other"}]})
    other = plain.plan(inventory(*gpus("nvidia", 8, 8))).resources
    container = ("n", "p", "c")
    one, two = DeviceID("nvidia-0"), DeviceID("nvidia-1")
    gpu_, memory, names = (
        ResourceName("nvidia.com/gpu"),
        ResourceName("nvidia.com/gpu-memory"),
        [
            ResourceName("nvidia.com/other"),
            ResourceName("nvidia.com/gone"),
        ],
    )
    both = {**resources, **other}
    assert splits([(container, gpu_, one), (container, memory, two)], both) == {
        container: "nvidia.com/gpu of nvidia-0, nvidia.com/gpu-memory of nvidia-1"
    }
    assert splits([(container, gpu_, one), (container, memory, one)], both) == {}
    assert splits([(container, gpu_, one), (container, names[0], two)], both) == {}
    assert splits([(container, gpu_, one), (container, names[1], two)], both) == {}


def test_what_must_be_included_is_never_narrowed_away() -> None:
    node = Node("nvidia", 8, 8)
    plan = node.plan
    memory = plan.resources[node.memory]
    node.pairs.given(plan.resources[node.gpu], one_id(plan, node.gpu, 1))
    available = frozenset(e.id for e in memory.devices)
    must = frozenset({one_id(plan, node.memory)[0].id})
    asked = Preference(available=available, must_include=must, size=2)
    assert node.pairs.narrowed(memory, asked) == asked
    fits = Preference(available=available, must_include=frozenset(), size=8)
    assert len(node.pairs.narrowed(memory, fits).available) == 8
    too_many = replace(fits, size=9)
    assert node.pairs.narrowed(memory, too_many) == too_many


def test_a_half_is_open_for_its_partner_alone() -> None:
    node = Node("nvidia", 8, 8)
    plan = node.plan
    replicas, memory = plan.resources[node.gpu], plan.resources[node.memory]
    node.pairs.given(replicas, one_id(plan, node.gpu, 1))
    node.pairs.check(replicas, one_id(plan, node.gpu, 0))  # the next container's
    other = replace(memory, partner=ResourceName("nvidia.com/another"))
    node.pairs.check(other, one_id(plan, node.memory, 0))
    with pytest.raises(AllocationError):
        node.pairs.check(memory, one_id(plan, node.memory, 0))


def test_a_gpu_of_which_nothing_is_available_does_not_say_how_much_is_most() -> None:
    node = Node("nvidia", 8, 4, 2)
    replicas = node.plan.resources[node.gpu]
    ids = {n: {e.id for e in replicas.devices if e.device == f"nvidia-{n}"} for n in range(3)}
    asked = Preference(available=frozenset(ids[1] | ids[2]), must_include=frozenset(), size=1)
    assert node.pairs.narrowed(replicas, asked).available == ids[1]


def test_one_half_alone_is_not_split() -> None:
    resources = Node("nvidia", 8, 8).plan.resources
    container, name = ("n", "p", "c"), ResourceName("nvidia.com/gpu")
    one, two = DeviceID("nvidia-0"), DeviceID("nvidia-1")
    assert splits([(container, name, one), (container, name, two)], resources) == {}
