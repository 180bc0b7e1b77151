"""Golden tables of the policies that go by use, order, readings and place."""

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from deviceplugin.model import AdvertisedID, DeviceID, Health
from deviceplugin.placement.layout import WHOLE, loads_of
from deviceplugin.placement.topology import PciTopology, Place, topology_of
from deviceplugin.placement.view import Context
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import NAME, Box

PARTS = Box(boxes.parts(boxes.pcie_only(4), 4))
WHOLE_GPUS = Box(boxes.pcie_only(8))


def free(text: str) -> tuple[str, ...]:
    """`0:13` are the partitions 1 and 3 of GPU 0."""
    return tuple(
        f"g{int(gpu):02d}.{part}"
        for gpu, numbers in (word.split(":") for word in text.split())
        for part in numbers
    )


@pytest.mark.parametrize(
    ("policy", "available", "must", "size", "answer"),
    [
        pytest.param(*row, id=f"{row[0]}:{row[3]}of[{row[1]}]with[{row[2]}]")
        for row in [
            ("packed", "0:0123 1:0123 2:0123 3:0123", "", 1, "0:0"),
            ("packed", "0:0123 1:123 2:0123 3:0123", "", 1, "1:1"),
            ("packed", "0:0123 1:123 2:3 3:0123", "", 1, "2:3"),
            # One GPU that holds all of them, the fullest of those.
            ("packed", "0:0123 1:123 2:3 3:0123", "", 2, "1:12"),
            # Of the empty ones that on the socket in use.
            ("packed", "0:0123 1:123 2:3 3:0123", "", 4, "3:0123"),
            # None holds five: used ones first.
            ("packed", "0:0123 1:123 2:3 3:0123", "", 5, "1:123 2:3 3:0"),
            ("packed", "0:0123 1:123 2:3 3:0123", "3:2", 2, "3:02"),
            ("packed", "0:0123 2:0123 3:012", "", 3, "3:012"),
            ("spread", "0:0123 1:0123 2:0123 3:0123", "", 1, "0:0"),
            # The second one goes to the other socket.
            ("spread", "0:0123 1:0123 2:0123 3:0123", "", 2, "0:0 2:0"),
            ("spread", "0:0123 1:0123 2:0123 3:0123", "", 6, "0:01 1:0 2:01 3:0"),
            ("spread", "0:123 1:3 2:0123 3:0123", "", 3, "2:01 3:0"),
            ("spread", "0:123 1:3 2:0123 3:0123", "2:0", 2, "2:0 3:0"),
            ("fair_share", "0:123 1:3 2:0123 3:0123", "", 1, "2:0"),
            ("fair_share", "0:123 1:3 2:0123 3:0123", "", 3, "0:1 2:0 3:0"),
            ("round_robin", "0:0123 1:0123 2:0123 3:0123", "", 1, "0:0"),
            ("round_robin", "0:0123 1:0123 2:0123 3:0123", "", 6, "0:01 1:01 2:0 3:0"),
            ("round_robin", "1:23 3:0", "", 2, "1:2 3:0"),
            ("aligned", "0:0123 1:123 2:3 3:0123", "", 3, "1:123"),
            ("aligned", "0:0123 1:123 2:3 3:0123", "", 5, "2:3 3:0123"),
            ("aligned", "0:01 1:01 2:0123 3:0123", "", 4, "2:0123"),
            ("proximity", "0:0123 1:0123 2:0123 3:0123", "3:0", 5, "2:0 3:0123"),
            ("real_time", "0:123 1:0123 2:0123 3:0123", "", 2, "1:01"),
        ]
    ],
)
def test_partitions_are_chosen_with_knowledge_of_their_gpus(
    policy: str, available: str, must: str, size: int, answer: str
) -> None:
    assert PARTS.ask(size, free(available), free(must), policy=policy) == free(answer)


def with_(box: Box, **known: object) -> Context:
    return replace(box.context, **known)


def g(*numbers: int) -> tuple[str, ...]:
    return tuple(f"g{number:02d}" for number in numbers)


def by_gpu(values: Mapping[int, object]) -> dict[DeviceID, object]:
    return {DeviceID(f"g{number:02d}"): value for number, value in values.items()}


@pytest.mark.parametrize(
    ("policy", "known", "available", "size", "answer"),
    [
        pytest.param("round_robin", {"last": 2}, range(8), 1, g(3), id="the next GPU"),
        pytest.param("round_robin", {"last": 7}, range(8), 2, g(0, 1), id="round the end"),
        pytest.param("round_robin", {"last": 2}, [0, 1, 5], 1, g(5), id="the next that is free"),
        pytest.param("round_robin", {"last": 6}, [1, 5, 7], 2, g(1, 7), id="in turn, not in order"),
        pytest.param("round_robin", {"last": 99}, range(8), 1, g(0), id="after one that is gone"),
        pytest.param("priority", {"order": {6: 0, 1: 1}}, range(8), 1, g(6), id="first selector"),
        pytest.param("priority", {"order": {6: 0, 1: 1}}, range(8), 2, g(1, 6), id="then second"),
        pytest.param(
            "priority", {"order": {6: 0, 1: 1}}, range(8), 3, g(0, 1, 6), id="then near to them"
        ),
        pytest.param("priority", {"order": {4: 0, 5: 0, 0: 0}}, range(8), 2, g(4, 5), id="alike"),
        pytest.param(
            "fair_share", {"loads": {0: WHOLE, 1: 5, 2: WHOLE}}, [0, 1, 2], 1, g(1), id="by ledger"
        ),
        pytest.param(
            "fair_share",
            {"readings": {3: Reading(utilisation_percent=1.0)}},
            range(8),
            1,
            g(3),
            id="unknown utilisation is full",
        ),
        pytest.param(
            "real_time", {"loads": dict.fromkeys(range(7), 1)}, range(8), 1, g(7), id="unused"
        ),
        pytest.param(
            "real_time",
            {"readings": {n: Reading(temperature_c=60.0 - n, throttled=n == 7) for n in range(8)}},
            range(8),
            2,
            g(5, 6),
            id="cool but not throttled",
        ),
        pytest.param(
            "real_time",
            {"readings": {4: Reading(temperature_c=90.0, throttled=False)}},
            range(8),
            1,
            g(4),
            id="unknown is worse than hot",
        ),
        pytest.param(
            "real_time", {"loads": dict.fromkeys(range(8), 1)}, range(8), 2, g(0, 1), id="always"
        ),
        pytest.param("proximity", {}, range(8), 2, g(0, 1), id="without a place as aligned"),
        pytest.param("packed", {}, [0, 1, 2, 4, 5], 1, g(4), id="the socket in use"),
        pytest.param("spread", {}, [0, 1, 4, 5, 6], 1, g(4), id="the other socket"),
    ],
)
def test_whole_gpus_are_chosen_by_what_is_known(
    policy: str, known: dict[str, object], available: list[int], size: int, answer: tuple[str, ...]
) -> None:
    context = WHOLE_GPUS.context
    for name, value in known.items():
        given = {NAME: DeviceID(f"g{value:02d}")} if name == "last" else by_gpu(value)  # type: ignore[arg-type]
        context = replace(context, **{name: given})
    assert WHOLE_GPUS.ask(size, g(*available), policy=policy, context=context) == answer


PATHS = {f"0000:{n + 16:02x}:00.0": f"/sys/devices/pci0000:{n // 2}0/s/d{n}/g{n}" for n in range(8)}


@pytest.mark.parametrize(
    ("nic", "size", "answer"),
    [
        pytest.param(Place(path="/sys/devices/pci0000:20/s/n/eth"), 1, g(4), id="same switch"),
        pytest.param(Place(path="/sys/devices/pci0000:20/s/n/eth"), 2, g(4, 5), id="both of it"),
        pytest.param(Place(path="/x", numa_node=1), 1, g(4), id="same socket"),
        pytest.param(Place(numa_node=1), 4, g(4, 5, 6, 7), id="all of the socket"),
    ],
)
def test_proximity_goes_by_the_way_to_the_nic(
    nic: Place, size: int, answer: tuple[str, ...]
) -> None:
    box = Box(boxes.pcie_only(8), PciTopology(paths=PATHS, nic=nic))
    assert box.ask(size, policy="proximity") == answer


def test_proximity_goes_by_the_must_include_set_without_a_nic() -> None:
    assert WHOLE_GPUS.ask(3, must=["g06"], policy="proximity") == g(4, 6, 7)


def test_replicas_of_distinct_devices_come_before_second_replicas_of_one() -> None:
    resource, devices = boxes.replicated(boxes.parts(boxes.pcie_only(2), 2)[1:3], 3)
    whole = boxes.pcie_only(2)[:1]
    topology = topology_of(boxes.inventory([*whole, *devices.values()]), PciTopology())
    layout = Context(topology=topology).layout(resource)
    assert layout.gpus == ("g00",)
    assert layout.ids[0][:3] == ("g00.0::0", "g00.1::0", "g00.0::1")


def test_a_load_counts_what_all_resources_take_of_a_gpu() -> None:
    layout = PARTS.context.layout(PARTS.resource)
    held = {NAME: [AdvertisedID("g00.1"), AdvertisedID("g02.0"), AdvertisedID("gone")]}
    assert loads_of(held, {NAME: layout}) == {"g00": WHOLE // 4, "g02": WHOLE // 4}


def test_an_unhealthy_part_is_not_in_use() -> None:
    entries = [
        replace(e, health=Health.UNHEALTHY) if e.id == "g00.0" else e
        for e in PARTS.resource.devices
    ]
    sick = replace(PARTS.resource, devices=tuple(entries))
    box = Box(boxes.parts(boxes.pcie_only(4), 4))
    box.resource = sick
    rest = [i for i in box.ids if i not in ("g00.0", "g02.1")]
    assert box.ask(1, rest, policy="packed") == ("g02.0",)
