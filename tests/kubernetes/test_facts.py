"""What a node tells the cluster's scheduler of its GPUs: the value, and the part that writes it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
import yaml
from msgspec import structs

from deviceplugin.config.config import Config
from deviceplugin.daemon.facts import Known, node_facts
from deviceplugin.kubernetes.api import Access, ApiError
from deviceplugin.kubernetes.facts import (
    ANNOTATION,
    MAX_BYTES,
    VERSION,
    GpuFacts,
    NodeFacts,
    PartFacts,
    pod_hash,
    read,
    written,
)
from deviceplugin.kubernetes.publish import FactsPart
from deviceplugin.kubernetes.section import KubernetesSection
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Isolation,
    Link,
    Place,
    Resource,
    ResourceName,
)
from deviceplugin.placement.topology import PciTopology, topology_of
from deviceplugin.telemetry.model import DeviceView, Reading, TelemetryView
from tests.kubernetes.stub import ApiStub, api_stub

COMPONENT = Path(__file__).parents[2] / "deploy/components/facts"
GPU = ResourceName("nvidia.com/gpu")


def gpu(number: int, **more: object) -> Device:
    return Device(
        id=DeviceID(f"GPU-{number}"),
        vendor="nvidia",
        resource=GPU,
        pci_address=f"0000:0{number}:00.0",
        memory_bytes=80 << 30,
        **more,  # type: ignore[arg-type]  # of the device
    )


def known() -> Known:
    one = gpu(1, numa_node=0, links=(Link(peer=DeviceID("GPU-2"), kind="NVLINK", width=18),))
    two = gpu(2, numa_node=0)
    three = gpu(3, numa_node=1)
    warning = Fault(
        device=three.id, source="nvidia.xid", code="63", reason="r", kind=FaultClass.WARN
    )
    inventory = Inventory(
        generation=1,
        devices=MappingProxyType({d.id: d for d in (one, two, three)}),
        faults=MappingProxyType({three.id: (warning,)}),
        vendors=MappingProxyType({}),
    )
    listed = [
        AdvertisedDevice(id=AdvertisedID(d.id), device=d.id, replica=None, health=health)
        for d, health in ((one, Health.HEALTHY), (two, Health.UNHEALTHY), (three, Health.HEALTHY))
    ]
    read_at_1 = Reading(
        metric="utilization_ratio",
        device=one.id,
        value=0.72,
        at=1.0,
        labels=(("engine", "compute"),),
    )
    hot = Reading(metric="temperature_celsius", device=one.id, value=67.0, at=1.0)
    view = DeviceView(device=one, up=True, seen_at=1.0, readings=(read_at_1, hot))
    return Known(
        inventory=inventory,
        topology=topology_of(inventory, PciTopology()),
        listed={GPU: Resource(name=GPU, vendor="nvidia", devices=tuple(listed))},
        held=[(("ml", "train", "main"), GPU, three.id)],
        view=TelemetryView(interval_s=1.0, devices={one.id: view}),
    )


def test_the_facts_are_what_the_daemon_knows() -> None:
    facts = node_facts(known())
    assert facts is not None
    assert [(one.id, one.healthy, one.warned) for one in facts.gpus] == [
        ("GPU-1", True, False),
        ("GPU-2", False, False),
        ("GPU-3", True, True),
    ]
    assert facts.gpus[0] == GpuFacts(
        id="GPU-1",
        memory_mib=80 << 10,
        numa_node=0,
        load=7,
        celsius=70,
        isolation="hardware",
        offers={"nvidia.com/gpu": 1},
    )
    assert (facts.gpus[1].load, facts.gpus[1].celsius) == (None, None)
    assert facts.held == {pod_hash("ml", "train"): (2,)}
    costs = {pair[:2]: pair[2] for pair in facts.links}
    assert costs[0, 1] < costs[0, 2] == costs[1, 2]


def cut(places: dict[str, Place | None], profiles: str = "p", held: str = "") -> NodeFacts:
    """One GPU with these parts, of which the last is ill."""
    whole = structs.replace(gpu(1), resource=None)
    parts = [
        Device(
            id=DeviceID(name),
            vendor="nvidia",
            parent=whole.id,
            index=number,
            profile=profiles[number % len(profiles)],
            resource=ResourceName(f"nvidia.com/{name[0]}"),
            pci_address=whole.pci_address,
            memory_bytes=(10 + number) << 30,
            isolation=Isolation.MEMORY if number == 1 else Isolation.HARDWARE,
            place=place,
        )
        for number, (name, place) in enumerate(places.items())
    ]
    inventory = Inventory(
        generation=1,
        devices=MappingProxyType({d.id: d for d in (whole, *parts)}),
        faults=MappingProxyType({}),
        vendors=MappingProxyType({}),
    )
    listed: dict[ResourceName, Resource] = {}
    for part in parts:
        name = part.resource or ResourceName("")
        entry = AdvertisedDevice(
            id=AdvertisedID(part.id),
            device=part.id,
            health=Health.UNHEALTHY if part is parts[-1] else Health.HEALTHY,
        )
        devices = listed[name].devices if name in listed else ()
        listed[name] = Resource(name=name, vendor="nvidia", devices=(*devices, entry))
    facts = node_facts(
        Known(
            inventory=inventory,
            topology=topology_of(inventory, PciTopology()),
            listed=listed,
            held=[(("ml", "train", "main"), ResourceName("nvidia.com/a"), DeviceID(held))],
            view=None,
        )
    )
    assert facts is not None
    assert read(written(facts)) == structs.replace(facts, version=VERSION)
    return facts


def test_of_a_gpu_that_is_cut_it_is_told_where_its_parts_are_and_who_has_them() -> None:
    small = [Place(slices=8, start=at, size=1, starts=(0, 1, 2, 3, 4, 5, 6)) for at in range(3)]
    large = Place(slices=8, start=4, size=4, starts=(0, 4))
    facts = cut({"a0": small[0], "a1": small[1], "b0": large, "a2": small[2]}, held="a1")
    assert (facts.gpus[0].slices, facts.gpus[0].even) == (8, False)
    assert facts.gpus[0].parts == {
        "nvidia.com/a": PartFacts(1, (0, 1, 2, 3, 4, 5, 6), (0,), (1,), (2,), 10 << 10, "memory"),
        "nvidia.com/b": PartFacts(4, (0, 4), (4,), (), (), 12 << 10, "hardware"),
    }


def test_parts_without_places_divide_their_gpu_evenly() -> None:
    facts = cut({"a0": None, "a1": None, "a2": None}, held="a0")
    assert (facts.gpus[0].slices, facts.gpus[0].even) == (3, True)
    assert facts.gpus[0].parts == {
        "nvidia.com/a": PartFacts(1, (0, 1, 2), (1,), (0,), (2,), 10 << 10, "memory")
    }


def test_parts_of_which_some_have_no_place_are_counted_alone() -> None:
    place = Place(slices=8, start=0, size=1, starts=(0,))
    assert cut({"a0": place, "a1": None}).gpus[0].parts == {}
    assert cut({"a0": None, "a1": None}, profiles="pq").gpus[0].parts == {}


@pytest.mark.parametrize(
    "part", ["[0,[0]]", "[9,[0]]", "[1,[8]]", "[1,[0],[-1]]", "[4,[0],[],[5]]", "1"]
)
def test_parts_that_cannot_be_on_their_gpu_are_no_facts(part: str) -> None:
    text = f'{{"version":1,"gpus":[{{"i":"x","l":8,"p":{{"r":{part}}}}}]}}'
    assert read(text) is None
    assert read(text.replace(f'"r":{part}', '"r":[4,[0,4],[4]]')) is not None


def test_a_node_without_gpus_has_no_facts() -> None:
    nothing = Inventory(
        generation=1,
        devices=MappingProxyType({}),
        faults=MappingProxyType({}),
        vendors=MappingProxyType({}),
    )
    empty = msgspec.structs.replace(
        known(), inventory=nothing, topology=topology_of(nothing, PciTopology())
    )
    assert node_facts(empty) is None


def test_what_is_written_is_read_and_names_no_pod() -> None:
    facts = node_facts(known())
    assert facts is not None
    text = written(facts)
    assert "train" not in text
    assert read(text) == msgspec.structs.replace(facts, version=1)
    assert written(facts) == text
    assert len(text) < 600


def test_what_is_too_long_loses_what_can_be_missed() -> None:
    gpus = tuple(GpuFacts(id=f"GPU-{n}") for n in range(200))
    links = tuple((a, b, 1500) for a in range(200) for b in range(a + 1, 200))
    found = read(written(NodeFacts(gpus=gpus, links=links, held={"a": (1,)})))
    assert found is not None
    assert (len(found.gpus), found.links, found.held) == (200, (), {"a": (1,)})
    endless = tuple(GpuFacts(id=f"GPU-{n}{'x' * 9000}") for n in range(20))
    assert len(written(NodeFacts(gpus=endless))) <= MAX_BYTES
    assert read(written(NodeFacts(gpus=endless))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version":2,"gpus":[{"i":"a"}]}',
        '{"version":1,"gpus":[]}',
        '{"version":1,"gpus":[{}]}',
        '{"version":1,"gpus":[{"i":"a"}],"held":{"x":[1]}}',
        '{"version":1,"gpus":[{"i":"a"}],"links":[[0,-1,5]]}',
        '{"version":1,"gpus":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_facts_is_none(text: str) -> None:
    assert read(text) is None


@pytest.fixture
def api() -> Iterator[ApiStub]:
    with api_stub() as stub:
        yield stub


def config(*, facts: bool) -> Config:
    section = KubernetesSection(facts=facts)
    return Config(node_name="node-1", sections=MappingProxyType({"kubernetes": section}))


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not done():  # noqa: ASYNC110  # the server's thread tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_the_node_has_the_facts_while_they_are_asked_for(api: ApiStub) -> None:
    facts = [node_facts(known())]
    part = FactsPart(config(facts=False), lambda: facts[0], lambda: api.access)
    part.look_s = 0.02
    running = asyncio.ensure_future(part.tasks()["facts"]())

    def shown() -> NodeFacts | None:
        return read((api.node["metadata"].get("annotations") or {}).get(ANNOTATION, ""))

    assert shown() is None
    await part.use(config(facts=True))
    await until(shown)
    api.failures.append(500)
    assert facts[0] is not None
    facts[0] = msgspec.structs.replace(facts[0], held={})
    await until(lambda: (found := shown()) is not None and not found.held)
    await part.use(config(facts=False))
    await until(lambda: ANNOTATION not in api.node["metadata"]["annotations"])
    running.cancel()
    await asyncio.wait([running])


def test_the_component_gives_the_least_right_and_switches_it_on() -> None:
    role, _ = yaml.safe_load_all((COMPONENT / "rbac.yaml").read_text())
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]
    data = yaml.safe_load((COMPONENT / "config.yaml").read_text())["data"]
    section = yaml.safe_load(data["kubernetes-facts.yaml"])["kubernetes"]
    assert msgspec.convert(section, KubernetesSection).facts


@pytest.mark.slow
async def test_outside_a_pod_it_waits_for_another_configuration() -> None:
    asked = []

    def access() -> Access:
        asked.append(1)
        raise ApiError("no API server is known")

    part = FactsPart(config(facts=True), lambda: node_facts(known()), access)
    running = asyncio.ensure_future(part.tasks()["facts"]())
    await until(lambda: asked)
    await part.use(config(facts=True))
    await until(lambda: len(asked) == 2)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
