"""What the daemon keeps ready for policies: topology, order, turns; and whose policy counts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from deviceplugin.model import AdvertisedID, DeviceID, Inventory, Preference, Resource
from deviceplugin.placement.layout import WHOLE
from deviceplugin.placement.pci_topology import declared_problems, read_pci_topology
from deviceplugin.placement.prefer import plain
from deviceplugin.placement.registry import configured_policies, load_policy
from deviceplugin.placement.section import SECTIONS, GpuNode
from deviceplugin.placement.service import STATE_FILE, Placement, Sources, read_turns, settings_of
from deviceplugin.placement.topology import Place, Topology
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.guard import guarded
from deviceplugin.runtime.latest import Latest
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import NAME, Box
from tests.rig import WAIT_S

BOX = Box(boxes.pcie_only(8))
Make = Callable[..., Placement]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(sources: Sources | None = None, **raw: Any) -> Placement:
        return Placement(
            Host(tmp_path), settings_of(decode_sections(raw, SECTIONS), "node-a"), tmp_path, sources
        )

    return made


async def ready(placement: Placement, box: Box = BOX) -> Placement:
    await placement.look(box.inventory)
    await placement.lay_out([box.resource])
    return placement


def ask(placement: Placement, size: int, *available: str, box: Box = BOX) -> tuple[str, ...]:
    offered = tuple(map(AdvertisedID, available)) or box.ids
    asked = Preference(available=frozenset(offered), must_include=frozenset(), size=size)
    return tuple(placement.prefer(box.resource, asked))


@pytest.mark.parametrize(
    ("own", "raw", "used"),
    [
        pytest.param(None, {}, "aligned", id="whole GPUs"),
        pytest.param(None, {"scheduling": {"policy": "spread"}}, "spread", id="the node's"),
        pytest.param("packed", {"scheduling": {"policy": "spread"}}, "packed", id="its own first"),
        pytest.param(
            None,
            {
                "scheduling": {"policy": "spread"},
                "gpu_nodes": [
                    {"name": "node-a", "scheduling_policy": "fair_share"},
                    {"name": "node-b", "scheduling_policy": "priority"},
                ],
            },
            "fair_share",
            id="the node by name before the general one",
        ),
    ],
)
async def test_a_resource_follows_the_nearest_policy(
    make: Make, own: str | None, raw: dict[str, Any], used: str
) -> None:
    placement = await ready(make(**raw))
    known = placement.policy_of(replace(BOX.resource, policy=own))
    assert known == used or (own is not None and known == own)


async def test_partitions_are_packed_by_default(make: Make) -> None:
    box = Box(boxes.mi300x_cpx())
    assert (await ready(make(), box)).policy_of(box.resource) == "packed"


async def test_turns_go_on_after_a_restart(make: Make, tmp_path: Path) -> None:
    inventories, resources = Latest(BOX.inventory), Latest[Resources]({NAME: BOX.resource})
    first = await ready(make(scheduling={"policy": "round_robin"}))
    serving = asyncio.create_task(first.follow(inventories, resources))
    assert ask(first, 2) == ask(first, 2) == ("g00", "g01")
    first.handed_out(BOX.resource, BOX.resource.devices[:2])
    assert ask(first, 1) == ("g02",)
    async with asyncio.timeout(WAIT_S):
        while not (tmp_path / STATE_FILE).exists():  # noqa: ASYNC110  # written by a thread
            await asyncio.sleep(0)
    serving.cancel()
    second = await ready(make(scheduling={"policy": "round_robin"}))
    await second.recall()
    assert ask(second, 1) == ("g02",)


async def test_a_state_directory_that_cannot_be_written_stops_nothing(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / STATE_FILE).mkdir()
    inventories, resources = Latest(BOX.inventory), Latest[Resources]({NAME: BOX.resource})
    placement = await ready(make(scheduling={"policy": "round_robin"}))
    placement.handed_out(BOX.resource, BOX.resource.devices[:1])
    with capture_logs() as logs:
        serving = asyncio.create_task(placement.follow(inventories, resources))
        async with asyncio.timeout(WAIT_S):
            while not any(  # noqa: ASYNC110  # told by the log only
                e["event"] == "state_not_written" for e in logs
            ):
                await asyncio.sleep(0.001)
    assert not serving.done()
    assert ask(placement, 1) == ("g01",)
    serving.cancel()


async def test_policies_without_turns_keep_none(make: Make) -> None:
    placement = await ready(make())
    placement.handed_out(BOX.resource, BOX.resource.devices[:2])
    assert placement.context.last == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"handed_out": 7}', "\x00", "{}"])
def test_a_damaged_state_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    assert read_turns(tmp_path / STATE_FILE)[0] == {}


def test_turns_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text(json.dumps({"handed_out": {"a/b": "g01"}}))
    assert read_turns(tmp_path / STATE_FILE)[0] == {"a/b": "g01"}


async def test_a_changed_inventory_is_prepared_while_it_is_served(make: Make) -> None:
    placement = make()
    inventories = Latest(Inventory())
    resources: Latest[Resources] = Latest({})
    serving = asyncio.create_task(placement.follow(inventories, resources))
    inventories.set(BOX.inventory)
    resources.set(MappingProxyType({NAME: BOX.resource}))
    async with asyncio.timeout(WAIT_S):
        while not prepared(placement):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
    layout = placement.context.layouts[NAME]
    assert layout.resource is BOX.resource
    assert layout.topology is placement.context.topology
    serving.cancel()


async def test_the_ledger_and_telemetry_are_asked_at_each_call(make: Make) -> None:
    held: dict[Any, Any] = {NAME: ("g00", "g01")}
    readings = {DeviceID(f"g0{n}"): Reading(utilisation_percent=90.0 - n) for n in range(8)}
    sources = Sources(holders=lambda: held, readings=lambda: readings)
    placement = await ready(make(sources, scheduling={"policy": "fair_share"}))
    assert placement.context.loads == {"g00": WHOLE, "g01": WHOLE}
    assert ask(placement, 1) == ("g07",)


async def test_operators_order_gpus_by_selectors(make: Make) -> None:
    raw = {
        "policy": "priority",
        "priority": [{"pci_address": "0000:15:*"}, {"numa_node": 1}, {"id": "g0[01]"}],
    }
    placement = await ready(make(scheduling=raw))
    assert placement.context.order["g05"] == 0  # type: ignore[index]
    assert ask(placement, 1) == ("g05",)
    assert ask(placement, 3) == ("g04", "g05", "g06")


def prepared(placement: Placement) -> bool:
    layout = placement.context.layouts.get(NAME)
    return layout is not None and layout.topology.gpus == BOX.context.topology.gpus


NIC_TREE = """
/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:00.0/0000:15:00.0/numa_node = 1
/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:01.0/0000:1a:00.0/numa_node = 1
/sys/bus/pci/devices/0000:15:00.0 -> \
../../../devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:00.0/0000:15:00.0
/sys/bus/pci/devices/0000:1a:00.0 -> \
../../../devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:01.0/0000:1a:00.0
/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:01.0/0000:1a:00.0/net/eth7/mtu = 1500
/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:01.0/0000:1a:00.0/net/eth7/device -> \
../../../0000:1a:00.0
/sys/class/net/eth7 -> \
../../devices/pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:01.0/0000:1a:00.0/net/eth7
/sys/class/net/lo/mtu = 65536
"""


@pytest.mark.parametrize("nic", ["eth7", "0000:1a:00.0"])
async def test_the_gpu_on_the_switch_of_the_nic_is_the_nearest(
    make: Make, tmp_path: Path, nic: str
) -> None:
    write_tree(tmp_path, NIC_TREE.replace("\\\n", ""))
    placement = await ready(make(scheduling={"policy": "proximity", "proximity_to": nic}))
    assert placement.context.topology.nic_level["g05"] == 10  # type: ignore[index]
    assert ask(placement, 1) == ("g05",)


@pytest.mark.parametrize("nic", ["lo", "eth8", "0000:ff:00.0"])
async def test_a_nic_that_is_not_there_changes_nothing(
    make: Make, tmp_path: Path, nic: str
) -> None:
    write_tree(tmp_path, NIC_TREE.replace("\\\n", ""))
    assert read_pci_topology(Host(tmp_path), BOX.inventory, nic).nic is None
    placement = await ready(make(scheduling={"policy": "proximity", "proximity_to": nic}))
    assert ask(placement, 1) == ("g00",)


def test_paths_that_leave_the_host_are_unknown(tmp_path: Path) -> None:
    write_tree(tmp_path, "/sys/bus/pci/devices/0000:15:00.0 -> /etc")
    around = read_pci_topology(Host(tmp_path), BOX.inventory, "0000:15:00.0")
    assert around.paths == {}
    assert around.nic is None


def test_a_place_without_anything_known_is_no_nic() -> None:
    assert Place() == Place(path=None, numa_node=None)


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        ({}, 0),
        ({"gpu_count": 8, "memory_per_gpu": "80GiB"}, 0),
        ({"gpu_count": 4}, 1),
        ({"memory_per_gpu": "32GiB"}, 8),
        ({"gpu_type": "nvidia-tesla-v100"}, 0),
    ],
    ids=str,
)
def test_what_a_list_of_nodes_says_is_compared_with_what_is_there(
    said: dict[str, Any], problems: int
) -> None:
    sections = decode_sections({"gpu_nodes": [{"name": "node-a", **said}]}, SECTIONS)
    declared = settings_of(sections, "node-a").declared
    assert len(declared_problems(declared, BOX.context.topology)) == problems


def declared_of(**said: Any) -> GpuNode | None:
    sections = decode_sections({"gpu_nodes": [{"name": "node-a", **said}]}, SECTIONS)
    return settings_of(sections, "node-a").declared


def test_what_differs_from_a_list_of_nodes_is_said_with_both() -> None:
    named = [replace(d, product="Tesla T4") for d in boxes.pcie_only(2)]
    topology = Box(named).context.topology
    declared = declared_of(gpu_count=4, memory_per_gpu="32GiB", gpu_type="nvidia-tesla-v100")
    assert list(declared_problems(declared, topology)) == [
        "gpu_nodes says 4 GPUs, 2 are there",
        "gpu_nodes says 32GiB, g00 has 80.0 GiB",
        "gpu_nodes says nvidia-tesla-v100, g00 is Tesla T4",
        "gpu_nodes says 32GiB, g01 has 80.0 GiB",
        "gpu_nodes says nvidia-tesla-v100, g01 is Tesla T4",
    ]
    assert declared_problems(declared_of(gpu_type="nvidia-tesla-t4"), topology) == ()
    assert declared_problems(declared_of(gpu_count=2), topology) == ()


@pytest.mark.parametrize(("gib", "problems"), [(76, 0), (75, 1), (84, 0), (85, 1)])
def test_a_twentieth_of_the_memory_may_be_missing_or_more(gib: int, problems: int) -> None:
    devices = [replace(d, memory_bytes=gib << 30) for d in boxes.unlinked(1)]
    topology = Box(devices).context.topology
    assert len(declared_problems(declared_of(memory_per_gpu="80GiB"), topology)) == problems


def test_nothing_is_said_of_a_list_of_nodes_before_a_gpu_is_found() -> None:
    assert declared_problems(declared_of(gpu_count=4), Topology()) == ()
    assert declared_problems(None, BOX.context.topology) == ()


async def test_readings_are_used_by_the_policies_that_choose_by_them(make: Make) -> None:
    for policy, used in (("aligned", False), ("fair_share", True), ("real_time", True)):
        placement = await ready(make(scheduling={"policy": policy}))
        assert placement.uses_readings is used


async def test_a_problem_is_logged_once_and_again_after_it_was_gone(make: Make) -> None:
    placement = make(gpu_nodes=[{"name": "node-a", "gpu_count": 8}])
    few = Box(boxes.pcie_only(4)).inventory
    with capture_logs() as logs:
        for inventory in (few, few, BOX.inventory, few):
            await placement.look(inventory)
    reasons = [line["reason"] for line in logs if line["event"] == "placement_configuration"]
    assert reasons == ["gpu_nodes says 8 GPUs, 4 are there"] * 2


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"scheduling": {"policy": "bogus"}}, "scheduling.policy"),
        (
            {"gpu_nodes": [{"name": "x", "scheduling_policy": "x"}]},
            "gpu_nodes[0].scheduling_policy",
        ),
        ({"gpu_nodes": [{"name": "x", "gpu_cuont": 1}]}, "gpu_nodes[0].gpu_cuont"),
        ({"gpu_nodes": [{"name": "x", "gpu_count": -1}]}, "gpu_nodes[0].gpu_count"),
        ({"gpu_nodes": [{"name": "x", "memory_per_gpu": "many"}]}, "gpu_nodes[0].memory_per_gpu"),
        ({"gpu_nodes": [{"gpu_count": 1}]}, "gpu_nodes[0].name"),
        ({"scheduling": {"proximity_to": "eth 0"}}, "scheduling.proximity_to"),
        ({"scheduling": {"priority": [{"colour": "red"}]}}, "scheduling.priority[0].colour"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_named_by_its_key(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured_policies(decode_sections(raw, SECTIONS))
    assert raised.value.key == key


def test_a_policy_that_is_not_installed_cannot_be_loaded() -> None:
    with pytest.raises(ConfigError, match="one of aligned, packed"):
        load_policy("bogus")


def test_a_policy_that_raises_is_told_once_and_replaced_by_the_plain_order() -> None:
    def broken(_: Resource, __: Preference, ___: object) -> tuple[AdvertisedID, ...]:
        raise ZeroDivisionError("third party")

    policy = guarded("broken", broken, plain)
    asked = Preference(available=frozenset(BOX.ids), must_include=frozenset({BOX.ids[5]}), size=2)
    with capture_logs() as logs:
        for _ in range(3):
            assert policy(BOX.resource, asked, BOX.context) == ("g00", "g05")
    assert [entry["event"] for entry in logs] == ["plugin_function_failed"]


async def test_ids_that_are_listed_no_more_are_no_turn(make: Make) -> None:
    placement = await ready(make(scheduling={"policy": "round_robin"}))
    gone = replace(BOX.resource.devices[0], id=AdvertisedID("gone"))
    placement.handed_out(BOX.resource, [gone])
    assert dict(placement.context.last) == {}
    placement.handed_out(BOX.resource, [gone, BOX.resource.devices[2]])
    assert dict(placement.context.last) == {NAME: "g02"}
