"""One GPU is never in two hands: a whole daemon with both APIs, and every order of calls."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.config.config import Config
from deviceplugin.config.load import CORE_SECTIONS
from deviceplugin.config.schema import decode_sections
from deviceplugin.daemon.assembly import assemble
from deviceplugin.daemon.capabilities import dra_wiring
from deviceplugin.daemon.core import Core, Start
from deviceplugin.dra.claims import ClaimRef
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.service import DraPart
from deviceplugin.dra.tombstones import KEPT_S
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID
from deviceplugin.resources.section import MemorySlices, Offer
from deviceplugin.runtime.part import Part
from deviceplugin.telemetry.model import Owner
from deviceplugin.telemetry.state import holders_of
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.dra import ClaimName, DraKubelet, RefusedError
from deviceplugin.testing.hardware.replay import replayed
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.pods import AdmissionError
from tests.dra.simulated import GPU, Simulated, gpus, until

CAPTURE = Path(__file__).parents[1] / "captures/simulated-mi300x-x2"
ONE, TWO = ClaimName(uid="u-1", name="one"), ClaimName(uid="u-2", name="two")


def dra(api: ApiServer, core: Core) -> Part[Config]:
    return DraPart(core.start.config, lambda: replace(dra_wiring(core), api=api))


@asynccontextmanager
async def daemon(
    root: Path, api: ApiServer, *, handover: bool, rules: tuple[Mapping[str, object], ...] = ()
) -> AsyncIterator[list[Core]]:
    """The daemon on a captured node, in this process; what it consists of, once it has started."""
    section = {"dra": {"enabled": True, "handover": handover}, "rules": list(rules)}
    config = Config(
        node_name="node-1",
        host_root=root / "host/amd",
        kubelet_dir=root / "k",
        cdi_dir=root / "cdi",
        state_dir=root / "s",
        metrics_address=None,
        sections=decode_sections(section, CORE_SECTIONS),
    )
    vendor = replayed(CAPTURE, "amd", root / "host")
    start = Start(config=config, vendors=(vendor,), now=time.time, seed=1)
    cores: list[Core] = []

    def with_dra(core: Core) -> Part[Config]:
        cores.append(core)
        return dra(api, core)

    running = asyncio.create_task(assemble(start, (with_dra,)).run())
    try:
        yield cores
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.slow
async def test_a_claims_device_is_told_of_the_pod_that_uses_the_claim(short_dir: Path) -> None:
    api, kubelet = ApiServer(), DraKubelet(short_dir / "k")
    async with (
        KubeletStub(short_dir / "k") as stub,
        daemon(short_dir, api, handover=True) as cores,
    ):
        await until(lambda: stub.allocatable() and kubelet.sockets() and api.devices)
        api.allocate("one", "u-1", [min(api.devices)])
        stub.pod_resources_knobs.claims = {"default/trainer": [("default", "one")]}
        async with kubelet.driver(kubelet.sockets()[0]) as driver:
            await driver.prepare(ONE)
            await stub.admit("trainer", {"main": {}})
            ledger = cores[0].sharing.ledger
            await until(ledger.held)
            (holders,) = holders_of(ledger.held()).values()
            owner = Owner(namespace="default", pod="trainer", container="main")
            assert holders == ((owner, "claim default/one"),)
            await driver.unprepare(ONE)
            assert ledger.held() == []


@pytest.mark.slow
async def test_a_node_serves_a_pod_by_each_api_and_refuses_the_second_of_one_gpu(
    short_dir: Path,
) -> None:
    api, kubelet = ApiServer(), DraKubelet(short_dir / "k")
    async with KubeletStub(short_dir / "k") as stub, daemon(short_dir, api, handover=True):
        await until(lambda: stub.allocatable() and kubelet.sockets() and api.devices)
        api.allocate("one", "u-1", [min(api.devices)])
        free = stub.allocatable()
        async with kubelet.driver(kubelet.sockets()[0]) as driver:
            (device,) = (await driver.prepare(ONE))["u-1"]
            assert device.cdi_device_ids
            await until(lambda: sum(stub.allocatable().values()) == sum(free.values()) - 1)
            await driver.unprepare(ONE)
            await until(lambda: stub.allocatable() == free)
            everything = {one: {"main": {one: count}} for one, count in free.items()}
            for number, containers in enumerate(everything.values()):
                await stub.admit(f"pod-{number}", containers)
            api.allocate("two", "u-2", [min(api.devices)])
            with pytest.raises(RefusedError, match="is in use as"):
                await driver.prepare(TWO)
            await until(lambda: all("taints" in one for one in api.devices.values()))


@pytest.mark.slow
async def test_without_handover_the_device_plugin_offers_nothing_of_it(short_dir: Path) -> None:
    api = ApiServer()
    async with KubeletStub(short_dir / "k") as stub, daemon(short_dir, api, handover=False):
        await until(lambda: stub.capacity() and api.devices)
        await until(lambda: not sum(stub.allocatable().values()))
        with pytest.raises(AdmissionError):
            await stub.admit("pod", {"main": {next(iter(stub.capacity())): 1}})
        assert not any("taints" in one for one in api.devices.values())


@pytest.mark.slow
async def test_rules_split_a_node_between_the_apis(short_dir: Path) -> None:
    api = ApiServer()
    whole = {"match": {"index": 0}, "offers": ["whole"], "apis": ["device-plugin"]}
    async with (
        KubeletStub(short_dir / "k") as stub,
        daemon(short_dir, api, handover=False, rules=(whole,)),
    ):
        await until(lambda: stub.allocatable().get("amd.com/gpu") and api.devices)
        await until(lambda: sum(stub.allocatable().values()) == 1)
        types = {one["attributes"]["type"]["string"] for one in api.devices.values()}
        assert types == {"amdgpu-partition"}
        await stub.admit("pod", {"main": {"amd.com/gpu": 1}})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "unprepare", "allocate", "release", "kill", "delete"]),
        st.integers(0, 2),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_no_order_of_calls_and_deaths_gives_a_gpu_twice(steps: list[tuple[str, int]]) -> None:
    root = Path(tempfile.mkdtemp(prefix="d"))
    try:
        asyncio.run(Orders(root).take(steps))
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Orders:
    """Three claims and the device plugin, all of which want the only GPU; what containers have is
    kept here, as the kubelet and the runtime would have it."""

    def __init__(self, root: Path) -> None:
        self.root, self.api = root, ApiServer()
        self.api.slices = {"x": {"spec": {"driver": "gpu.nvidia.com"}}}
        self.claims: set[int] = set()
        self.pod = False

    async def take(self, steps: list[tuple[str, int]]) -> None:
        self.begin()
        for number in range(3):
            self.api.allocate(f"c{number}", f"u{number}", ["gpu-0"])
        for step, number in steps:
            await getattr(self, step)(number)
            assert len(self.claims) + self.pod <= 1, (steps, self.claims, self.pod)

    def begin(self) -> None:
        """The daemon's next life; the kubelet's answer shows it what a pod has."""
        section = DraSection(enabled=True, handover=True)
        self.node = Simulated(self.root, self.api, section, count=1)
        self.node.node.load()
        self.driver = self.node.node._driver("gpu.nvidia.com")  # without sockets
        if self.pod:
            self.node.ledger.reserve([(GPU, AdvertisedID("GPU-0"))])

    def ref(self, number: int) -> ClaimRef:
        return ClaimRef(uid=f"u{number}", namespace="default", name=f"c{number}")

    async def prepare(self, number: int) -> None:
        try:
            await self.driver.claims.prepare(self.ref(number))
        except DevicePluginError:
            return
        self.claims.add(number)

    async def unprepare(self, number: int) -> None:
        await self.driver.claims.unprepare(self.ref(number))
        self.node.now_s += KEPT_S
        self.claims.discard(number)

    async def allocate(self, _: int) -> None:
        """As the guard of the device plugin decides it."""
        if not self.node.ledger.usage.value.of(gpus(1)[0].id):
            self.node.ledger.reserve([(GPU, AdvertisedID("GPU-0"))])
            self.pod = True

    async def release(self, _: int) -> None:
        self.node.ledger.give_back([(GPU, AdvertisedID("GPU-0"))], {})
        self.pod = False

    async def kill(self, _: int) -> None:
        self.begin()

    async def delete(self, number: int) -> None:
        """A claim that no container has is deleted while nobody tells the driver."""
        if number not in self.claims:
            self.api.claims.pop(("default", f"c{number}"), None)


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "unprepare", "allocate", "release", "kill"]),
        st.integers(0, 5),
    ),
    max_size=16,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=PARTS, sizes=st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_no_order_of_calls_gives_more_of_a_gpu_than_it_has(
    steps: list[tuple[str, int]], sizes: list[int]
) -> None:
    root = Path(tempfile.mkdtemp(prefix="d"))
    try:
        asyncio.run(Parts(root, sizes).take(steps))
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Parts(Orders):
    """Six claims, each of a part of the only GPU, which has eight, and the device plugin."""

    def __init__(self, root: Path, sizes: list[int]) -> None:
        super().__init__(root)
        self.sizes = sizes

    async def take(self, steps: list[tuple[str, int]]) -> None:
        self.begin()
        for number, size in enumerate(self.sizes):
            part = {"shareID": f"{number}", "consumedCapacity": {"memory": f"{10 * size}Gi"}}
            self.api.allocate(f"c{number}", f"u{number}", ["gpu-0"], **part)
        for step, number in steps:
            await getattr(self, step)(number)
            taken = sum(self.sizes[number] for number in self.claims)
            assert taken <= 8, (steps, self.claims)
            assert not (self.pod and self.claims), (steps, self.claims)

    def begin(self) -> None:
        super().begin()
        self.node.offers = (Offer(memory=MemorySlices(unit="10GiB")),)
