"""A node whose GPUs claims can have: the drivers with their sockets, and an API server's stub."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.dra.node import DraNode
from deviceplugin.dra.section import DraSection
from deviceplugin.dra.wiring import Limited, Wiring, unlimited
from deviceplugin.errors import VendorError
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    ResourceName,
    frozen,
)
from deviceplugin.resources.ledger import Ledger, PodResourcesReply
from deviceplugin.resources.section import Offer
from deviceplugin.runtime.keep import Keeper
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.dra import DraKubelet, Driver
from tests.rig import WAIT_S

DRIVER = "gpu.nvidia.com"
GPU = ResourceName("nvidia.com/gpu")


async def until(done: Callable[[], object]) -> None:
    """Wait for something of which nobody is told."""
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)


def gpus(count: int) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=DeviceID(f"GPU-{number}"),
            vendor="nvidia",
            resource=GPU,
            nodes=(f"/dev/nvidia{number}",),
            pci_address=f"0000:{number:02x}:00.0",
            memory_bytes=80 << 30,
        )
        for number in range(count)
    )


class Pods:
    """What pods have by the device plugin, as its ledger would learn it."""

    absent = False

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self.silent = ledger, False

    async def ask(self) -> None:
        if not self.silent:
            self._ledger.observe(PodResourcesReply(pods=frozenset(), holdings=()), 0.0)

    def allocating(self) -> AbstractContextManager[None]:
        return nullcontext()


class Places(Struct, frozen=True):
    """The directories of a daemon."""

    root: Path

    node_name = "node-1"

    @property
    def host_root(self) -> Path:
        return self.root

    @property
    def kubelet_dir(self) -> Path:
        return self.root / "k"

    @property
    def cdi_dir(self) -> Path:
        return self.root / "cdi"

    @property
    def state_dir(self) -> Path:
        return self.root / "s"


class Simulated:
    """One life of the daemon's DRA on the node below `root`; what outlives it lies there and in
    `api`."""

    def __init__(self, root: Path, api: ApiServer, section: DraSection, count: int = 4) -> None:
        self.places, self.api = Places(root), api
        self.ledger = Ledger(lambda: 0.0)
        self.store = InventoryStore(lambda: 1.0)
        self.store.set_devices("nvidia", gpus(count))
        self.pods, self.broken, self.now_s = Pods(self.ledger), "", 0.0
        self.offers: tuple[Offer, ...] = (Offer(whole=True),)
        self.asked: list[DeviceID] = []
        self.limited: Limited = unlimited
        wiring = Wiring(
            store=self.store,
            ledger=self.ledger,
            source=self.pods,
            described=self._described,
            keeper=Keeper(),
            api=api,
            now=lambda: self.now_s,
            forms=lambda inventory: dict.fromkeys(inventory.devices, self.offers),
            limited=self._limited,
        )
        self.node = DraNode(self.places, section, wiring)

    async def _limited(self, driver: str, uid: str, edits: ContainerEdits) -> ContainerEdits:
        return await self.limited(driver, uid, edits)

    async def _described(self, device: Device) -> tuple[ContainerEdits, ContainerEdits]:
        self.asked.append(device.id)
        if self.broken:
            raise VendorError(self.broken)
        nodes = tuple(DeviceNode(path=path, host_path=path) for path in device.nodes)
        common = ContainerEdits(env=frozen({"NVIDIA_VISIBLE_DEVICES": "void"}))
        return ContainerEdits(device_nodes=nodes), common

    def holders(self) -> dict[str, Sequence[str]]:
        """Who has each device, as the ledger says it, without what is kept for claims."""
        return {
            device: [name for name, _ in forms if name != "dra"]
            for device, forms in self.ledger.usage.value.held.items()
            if any(name != "dra" for name, _ in forms)
        }

    def cdi_files(self) -> list[str]:
        directory = self.places.cdi_dir
        return sorted(path.name for path in directory.glob("*.json")) if directory.is_dir() else []

    def cdi_document(self, uid: str) -> Any:
        """The CDI file of a claim."""
        return json.loads(
            (self.places.cdi_dir / f"deviceplugin-dra_{DRIVER}_{uid}.json").read_text()
        )

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[Driver]:
        """The driver, as a kubelet that starts now finds it."""
        kubelet = DraKubelet(self.places.kubelet_dir)
        await until(kubelet.sockets)
        async with kubelet.driver(kubelet.sockets()[0]) as driver:
            yield driver


@asynccontextmanager
async def simulated(
    root: Path,
    api: ApiServer | None = None,
    section: DraSection | None = None,
    offers: tuple[Offer, ...] = (),
    count: int = 4,
) -> AsyncIterator[Simulated]:
    """The node, serving and published; `offers` are those of the rules for every device."""
    node = Simulated(root, api or ApiServer(), section or DraSection(enabled=True), count)
    node.offers = offers or node.offers
    node.node.load()
    node.node.start()
    try:
        await until(lambda: len(node.api.devices) == len(node.store.current.devices))
        yield node
    finally:
        await node.node.end()


def journal_files(root: Path) -> Iterator[Path]:
    yield from sorted((Places(root).state_dir / "dra" / DRIVER).iterdir())
