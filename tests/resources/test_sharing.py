"""What a container gets of shared GPUs: limits, choice, variables."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pytest

from deviceplugin.edits import merge_edits
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Preference,
    Resource,
)
from deviceplugin.placement.narrow import narrow, shared
from deviceplugin.resources.allocation import check_request, offered_as
from deviceplugin.resources.grants import granted
from deviceplugin.vendors.nvidia.limits import limit_edits
from deviceplugin.vendors.nvidia.mps import MpsSettings
from tests.resources.builders import GIB, SHARING, gpu, instance, inventory, sharing

GPUS = (gpu(0, 40), gpu(1, 40), gpu(2, 40))
ALL_VARIABLES = [
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_SM_LIMIT",
]


def resource(offer: Any, *gpus: Device) -> Resource:
    plan = sharing({"offers": [offer]}).plan(inventory(*(gpus or GPUS)))
    (found,) = plan.resources.values()
    return found


def ids(found: Resource, **counts: int) -> list[AdvertisedID]:
    """`g0=2`: the first two ids of GPU 0."""
    return [
        entry.id
        for name, count in counts.items()
        for entry in [e for e in found.devices if e.device == GPUS[int(name[1:])].id][:count]
    ]


def entries(found: Resource, wanted: Collection[AdvertisedID]) -> list[AdvertisedDevice]:
    return [entry for entry in found.devices if entry.id in wanted]


def chosen(
    found: Resource, size: int, available: Iterable[AdvertisedID], must: Iterable[AdvertisedID] = ()
) -> list[int]:
    asked = Preference(available=frozenset(available), must_include=frozenset(must), size=size)
    picked = narrow(shared(found), asked).available
    assert len(picked) == size
    assert set(must) <= set(picked)
    return sorted(GPUS.index(next(g for g in GPUS if i.startswith(g.id))) for i in picked)


@pytest.mark.parametrize(
    ("size", "free", "expected"),
    [
        (10, {"g0": 40, "g1": 12, "g2": 40}, {1: 10}),
        (12, {"g0": 40, "g1": 12, "g2": 20}, {1: 12}),
        (13, {"g0": 40, "g1": 12, "g2": 20}, {2: 13}),
        (41, {"g0": 40, "g1": 40, "g2": 5}, {0: 40, 2: 1}),
        (60, {"g0": 40, "g1": 30, "g2": 20}, {0: 40, 2: 20}),
        (100, {"g0": 40, "g1": 40, "g2": 40}, {0: 40, 1: 40, 2: 20}),
    ],
)
def test_slices_come_from_as_few_gpus_as_possible(
    size: int, free: dict[str, int], expected: dict[int, int]
) -> None:
    memory = resource({"memory": {}})
    picked = chosen(memory, size, ids(memory, **free))
    assert {g: picked.count(g) for g in set(picked)} == expected


def test_slices_join_those_that_are_a_must() -> None:
    memory = resource({"memory": {}})
    must = ids(memory, g2=3)
    assert set(chosen(memory, 8, ids(memory, g0=10, g1=40, g2=40), must)) == {2}


def test_replicas_come_from_different_gpus_the_least_shared_first() -> None:
    replicas = resource({"replicas": 4, "distinct": True})
    free = ids(replicas, g0=1, g1=4, g2=3)
    assert chosen(replicas, 1, free) == [1]
    assert chosen(replicas, 2, free) == [1, 2]
    assert chosen(replicas, 3, free) == [0, 1, 2]


def test_partitions_of_one_gpu_are_not_distinct() -> None:
    parents = [gpu(i, resource=None) for i in range(2)]
    parts = [instance(parent, i) for parent in parents for i in range(2)]
    rule = {"match": {"profile": "*"}, "offers": [{"replicas": 2, "distinct": True}]}
    (found,) = sharing(rule).plan(inventory(*parents, *parts)).resources.values()
    every = tuple(entry.id for entry in found.devices)
    asked = Preference(available=frozenset(every), must_include=frozenset(), size=2)
    picked = narrow(shared(found), asked).available
    check_request(found, entries(found, picked))
    same = [entry for entry in found.devices if entry.device in (parts[0].id, parts[1].id)]
    with pytest.raises(AllocationError, match="2 different GPUs"):
        check_request(found, [same[0], same[2]])


def test_packed_replicas_fill_the_most_shared_gpu_first() -> None:
    replicas = resource({"replicas": 4, "policy": "packed"})
    assert chosen(replicas, 1, ids(replicas, g0=1, g1=4, g2=3)) == [0]


def test_a_preference_for_whole_gpus_is_left_alone() -> None:
    whole = resource("whole")
    every = frozenset(entry.id for entry in whole.devices)
    asked = Preference(available=every, must_include=frozenset(), size=1)
    assert narrow(shared(whole), asked) is asked


@pytest.mark.parametrize(
    ("offer", "asked", "text"),
    [
        ({"replicas": 4}, {"g0": 2}, "maximum request size for shared resources is 1; found 2"),
        ({"replicas": 4}, {"g0": 1, "g1": 1}, "shared resources is 1; found 2"),
        ({"replicas": 4, "max_per_container": 3}, {"g0": 4}, "is 3; found 4"),
        ({"replicas": 4, "distinct": True}, {"g0": 2, "g1": 1}, "3 different GPUs are asked for"),
        ({"memory": {}, "max_per_container": 8}, {"g0": 9}, "is 8; found 9"),
        ({"memory": {}}, {"g0": 5, "g1": 5}, "10 slices fit on 1 GPU"),
        ({"memory": {}}, {"g0": 20, "g1": 20, "g2": 5}, "45 slices fit on 2 GPU"),
    ],
)
def test_more_than_a_container_may_have_is_refused(
    offer: Any, asked: dict[str, int], text: str
) -> None:
    found = resource(offer)
    with pytest.raises(AllocationError, match=text) as refused:
        check_request(found, entries(found, ids(found, **asked)))
    assert refused.value.refusal is Refusal.LIMIT


@pytest.mark.parametrize(
    ("offer", "asked"),
    [
        ("whole", {"g0": 1, "g1": 1}),
        ({"replicas": 4, "max_per_container": "unlimited"}, {"g0": 4}),
        ({"replicas": 4, "distinct": True}, {"g0": 1, "g1": 1, "g2": 1}),
        ({"memory": {}}, {"g1": 40}),
        ({"memory": {}}, {"g0": 40, "g1": 1}),
    ],
)
def test_what_a_container_may_have_is_let_through(offer: Any, asked: dict[str, int]) -> None:
    found = resource(offer)
    check_request(found, entries(found, ids(found, **asked)))


def env(offer: Any, asked: dict[str, int], gpus: Sequence[Device] = GPUS) -> Mapping[str, str]:
    found = resource(offer, *gpus)
    wanted = entries(found, ids(found, **asked))
    of_all = granted(found, wanted, behind(found, gpus), SHARING(mps=MpsSettings(root="/run/mps")))
    return merge_edits([of_all.edits, limit_edits(of_all.grants)]).env


def behind(found: Resource, gpus: Iterable[Device]) -> dict[DeviceID, Device]:
    """The devices as a vendor is told them at an Allocate: under the resource's name."""
    return {g.id: offered_as(found.name, g) for g in gpus}


def test_slices_are_told_in_bytes_and_mib_with_every_variable_that_is_configured() -> None:
    values = env({"memory": {}, "variables": ALL_VARIABLES}, {"g0": 40, "g1": 10})
    first, second = GPUS[0].id, GPUS[1].id
    assert values == {
        "GPU_SHARE_ISOLATION": "none",
        "GPU_SHARE_MEMORY_BYTES": f"{first}={40 * GIB},{second}={10 * GIB}",
        "GPU_SHARE_MEMORY_MIB": f"{first}=40960,{second}=10240",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=40960M,1=10240M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_DEVICE_MEMORY_LIMIT_0": "40960m",
        "CUDA_DEVICE_MEMORY_LIMIT_1": "10240m",
        "CUDA_DEVICE_SM_LIMIT": "25",
    }


def test_only_the_variables_that_are_named_are_set() -> None:
    assert not any(key.startswith("CUDA") for key in env({"memory": {}}, {"g0": 1}))
    assert (
        env({"memory": {}, "variables": ["CUDA_DEVICE_SM_LIMIT"]}, {"g0": 4})[
            "CUDA_DEVICE_SM_LIMIT"
        ]
        == "10"
    )


def test_a_replica_stands_for_its_part_of_the_memory() -> None:
    values = env({"replicas": 4, "variables": ["CUDA_DEVICE_MEMORY_LIMIT"]}, {"g0": 1})
    assert values["CUDA_DEVICE_MEMORY_LIMIT_0"] == "10240m"


@pytest.mark.parametrize("variable", ["CUDA_DEVICE_SM_LIMIT", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"])
def test_a_limit_that_comes_to_zero_is_an_error(variable: str) -> None:
    offer = {"memory": {"unit": "256MiB"}, "variables": [variable]}
    with pytest.raises(AllocationError, match="it would be 0"):
        env(offer, {"g0": 1})


def test_a_limit_of_unknown_memory_is_an_error_and_the_amount_is_not_told() -> None:
    unknown = (gpu(0, memory_bytes=None),)
    assert "GPU_SHARE_MEMORY_BYTES" not in env({"replicas": 2}, {"g0": 1}, unknown)
    with pytest.raises(AllocationError, match="memory is unknown"):
        env({"replicas": 2, "variables": ["CUDA_DEVICE_MEMORY_LIMIT"]}, {"g0": 1}, unknown)


def test_mps_gives_the_socket_of_its_resource_and_nothing_that_can_be_written() -> None:
    found = resource({"replicas": 4, "sharing": "mps"})
    wanted = entries(found, ids(found, g0=1))
    section = SHARING(mps=MpsSettings(root="/run/mps"))
    edits = granted(found, wanted, behind(found, GPUS), section).edits
    assert edits.env["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu/pipe"
    assert [(m.path, m.host_path, m.read_only) for m in edits.mounts] == [
        ("/mps/nvidia.com/gpu/pipe", "/run/mps/nvidia.com/gpu/client", True),
    ]


def test_mps_gives_pipes_and_shared_memory_where_clients_get_directories() -> None:
    found = resource({"replicas": 4, "sharing": "mps"})
    wanted = entries(found, ids(found, g0=1))
    section = SHARING(mps=MpsSettings(root="/run/mps", clients="directories"))
    edits = granted(found, wanted, behind(found, GPUS), section).edits
    assert [(m.path, m.host_path, m.read_only) for m in edits.mounts] == [
        ("/mps/nvidia.com/gpu/pipe", "/run/mps/nvidia.com/gpu/pipe", False),
        ("/dev/shm", "/run/mps/shm", False),
    ]
