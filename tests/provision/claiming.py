"""A node whose GPUs are cut as claims ask: the drivers, what follows layouts, and the helper, with
GPUs that are values. Each `life` is one of the daemon; the helper's journal and DRA's lie below
`root`, and the hardware outlives both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from deviceplugin.dra.claims import ClaimRef
from deviceplugin.dra.node import DraNode
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.wiring import Wiring as DraWiring
from deviceplugin.errors import VendorError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import ContainerEdits, Device, DeviceID, DeviceNode, ResourceName, frozen
from deviceplugin.provision.follow import Follower
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.protocol import Answer, NoHelperError, Request
from deviceplugin.provision.section import Layout, PartitioningSection, Wanted
from deviceplugin.provision.standing import Standing
from deviceplugin.provision.wiring import Layouts, Wiring
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.section import Offer
from deviceplugin.runtime.keep import Keeper
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.vendor.partitions import Instance, PartitionedGpu, Step, Verb
from tests.dra.simulated import DRIVER, Places, Pods
from tests.provision.model import after, place_of
from tests.provision.products import product

GPU = ResourceName("nvidia.com/gpu")


class Killed(BaseException):  # as a SIGKILL: nothing catches it
    """A process ended here."""


class Cards:
    """GPUs as values; `before` is called before and after each change."""

    def __init__(self, *names: str) -> None:
        self.gpus = {
            f"GPU-{number}": replace(
                product(name), id=f"GPU-{number}", index=number, address=f"0000:{number:02x}:00.0"
            )
            for number, name in enumerate(names)
        }
        self.ids: dict[tuple[str, str, int], str] = {}
        self.users: dict[tuple[str, str, int], str] = {}
        self.before: Callable[[], None] = lambda: None
        self._number = 0

    def read(self) -> Sequence[PartitionedGpu]:
        return [self._named(gpu) for gpu in self.gpus.values()]

    def apply(self, step: Step) -> None:
        self.before()
        self.gpus[step.gpu] = after(self.gpus[step.gpu], [step])
        key = (step.gpu, step.name, step.number)
        if step.verb is Verb.CREATE:
            self._number += 1
            self.ids[key] = f"MIG-{self._number}"
        self.before()

    def is_done(self, step: Step) -> bool:
        if step.verb is Verb.MIG_MODE:
            mig = self.gpus[step.gpu].mig
            return mig is not None and mig.enabled == bool(step.number)
        there = place_of(step) in {(one.profile, one.start) for one in self.instances(step.gpu)}
        return there == (step.verb is Verb.CREATE)

    def close(self) -> None:
        pass

    def instances(self, gpu: str) -> tuple[Instance, ...]:
        mig = self.gpus[gpu].mig
        return mig.instances if mig else ()

    def places(self, gpu: str = "GPU-0") -> list[tuple[str, int]]:
        return sorted((one.profile, one.start) for one in self.instances(gpu))

    def devices(self) -> Iterator[Device]:
        """As the vendor would find them."""
        for number, gpu in enumerate(self.gpus.values()):
            assert gpu.mig is not None
            whole = Device(
                id=DeviceID(gpu.id),
                vendor="nvidia",
                index=number,
                product=gpu.product,
                resource=None if gpu.mig.enabled else GPU,
                nodes=(f"/dev/nvidia{number}",),
                pci_address=gpu.address,
                memory_bytes=80 << 30,
            )
            yield whole
            for one in gpu.mig.instances:
                yield self._part(whole, gpu, one)

    def _part(self, whole: Device, gpu: PartitionedGpu, one: Instance) -> Device:
        assert gpu.mig is not None
        profile = next(p for p in gpu.mig.profiles if p.name == one.profile)
        attributes = {"placement_start": str(one.start), "instance_profile": str(profile.id)}
        return replace(
            whole,
            id=DeviceID(self.ids[gpu.id, one.profile, one.start]),
            parent=whole.id,
            profile=one.profile,
            resource=ResourceName("nvidia.com/mig"),
            memory_bytes=profile.memory_bytes,
            attributes=frozen(attributes),
        )

    def _named(self, gpu: PartitionedGpu) -> PartitionedGpu:
        assert gpu.mig is not None
        named = []
        for one in gpu.mig.instances:
            key = (gpu.id, one.profile, one.start)
            users = (self.users[key],) if key in self.users else ()
            named.append(replace(one, devices=(self.ids[key],), users=users))
        return replace(gpu, mig=replace(gpu.mig, instances=tuple(named)))


class Life:
    """One life of the daemon beside one of the privileged process."""

    def __init__(self, root: Path, cards: Cards, api: ApiServer, layouts: Sequence[Layout]) -> None:
        self.root, self.cards, self.api = root, cards, api
        self.ledger, self.store = Ledger(lambda: 0.0), InventoryStore(lambda: 1.0)
        self.now_s, self.absent = 0.0, False
        self.point: Callable[[], None] = lambda: None  # the daemon may end here
        self.pods = Pods(self.ledger)
        self.store.set_devices("nvidia", list(cards.devices()))
        self.helper = self._helper()
        wanted = Wanted(layouts=tuple(layouts))
        self.follower = Follower(self._wiring(), wanted)
        on_demand = self.follower.on_demand
        section = DraSection(enabled=True, handover=True)
        wiring = DraWiring(
            store=self.store,
            ledger=self.ledger,
            source=self.pods,
            described=self._described,
            keeper=Keeper(),
            api=api,
            forms=lambda inventory: dict.fromkeys(inventory.devices, (Offer(whole=True),)),
            partitionable=lambda: on_demand.gpus,
            ours=on_demand.is_ours,
            fit=on_demand.fit,
            left=on_demand.is_left,
            claims=on_demand.follow,
            now=lambda: self.now_s,
        )
        self.node = DraNode(Places(root), section, wiring)
        self.node.load()
        self.driver = self.node._driver(DRIVER)

    async def settle(self) -> None:
        """Rounds until nothing changes; what was cut off is due again at once."""
        for _ in range(8):
            self.now_s += 700.0
            if not await self.follower._round():
                return

    async def prepare(self, name: str) -> None:
        await self.driver.claims.prepare(ref(name))

    async def unprepare(self, name: str) -> None:
        await self.driver.claims.unprepare(ref(name))
        self.now_s += 700.0  # past what keeps a late Prepare from an ended claim

    def published(self) -> set[str]:
        """The names of the devices that claims can have without a toleration."""
        devices = [d for spec in self.driver.plan(36).specs for d in spec.get("devices") or ()]
        return {device["name"] for device in devices if not device.get("taints")}

    def held(self) -> dict[str, list[str]]:
        """What claims have, by device."""
        return {
            device: [name for name, _ in forms if name.startswith("claim ")]
            for device, forms in self.ledger.usage.value.held.items()
            if any(name.startswith("claim ") for name, _ in forms)
        }

    def _helper(self) -> Helper:
        return Helper({"nvidia": self.cards}, Around(state_dir=self.root / "s", boot="boot"))

    def _wiring(self) -> Wiring:
        return Wiring(
            socket=self.root / "socket",
            store=self.store,
            ledger=self.ledger,
            source=self.pods,
            changing=self._changing,
            sourced=_no_file,
            answered=_nobody,
            monotonic=lambda: self.now_s,
            ask=self._ask,
        )

    def _ask(self, _: Path, request: Request, __: float) -> Answer:
        if self.absent:
            raise NoHelperError("deviceplugin provision does not answer")
        self.point()
        try:
            answer = self.helper.answer(request)
        except Killed as killed:
            self.helper = self._helper()
            raise NoHelperError("the connection ended") from killed
        self.point()
        return answer

    @asynccontextmanager
    async def _changing(self, vendor: str, released: bool) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.store.set_devices(vendor, list(self.cards.devices()))

    async def _described(self, device: Device) -> tuple[ContainerEdits, ContainerEdits]:
        self.point()
        if device.id not in self.store.current.devices:
            raise VendorError(f"{device.id} is gone")
        nodes = tuple(DeviceNode(path=path, host_path=path) for path in device.nodes)
        return ContainerEdits(device_nodes=nodes), ContainerEdits()


def ref(name: str) -> ClaimRef:
    return ClaimRef(uid=f"u-{name}", namespace="default", name=name)


async def _no_file(_: PartitioningSection) -> Layouts:
    return Layouts()


async def _nobody(_: Sequence[Standing]) -> None:
    await asyncio.sleep(0)
