"""Nodes with Intel GPUs from trees, and the vendor that looks at them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Discovery
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel import IntelVendor
from deviceplugin.vendors.intel.health import IntelHealth
from deviceplugin.vendors.intel.reader import MemoryQuery
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings

TREES = Path(__file__).parent / "trees"

MakeVendor = Callable[..., IntelVendor]
Offered = Callable[[Discovery], dict[str, int]]
FindDevice = Callable[[Discovery, str], Device]
Codes = Callable[[Discovery], list[tuple[str, str]]]


def no_answer(driver: str, node: str) -> None:
    """A DRM query as it ends where the daemon may not open the node."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty host."""
    return tmp_path / "root"


@pytest.fixture
def make_vendor(root: Path) -> MakeVendor:
    """Vendors that look at `root`; keywords are a tree, a query, a host and the two sections."""

    def make(
        tree: str | None = None,
        *,
        query: MemoryQuery = no_answer,
        host: Host | None = None,
        intel: dict[str, object] | None = None,
        intel_xe: dict[str, object] | None = None,
    ) -> IntelVendor:
        if tree is not None:
            write_tree(root, (TREES / f"{tree}.tree").read_text())
        return IntelVendor(
            host=host or Host(root),
            query=query,
            settings=msgspec.convert(intel or {}, IntelSettings),
            xe=msgspec.convert(intel_xe or {}, XeSettings),
            health=IntelHealth(host or Host(root)),
        )

    return make


@pytest.fixture
def offered() -> Offered:
    """How many devices that can be given to somebody each resource of a discovery has."""

    def count(discovery: Discovery) -> dict[str, int]:
        taken = {fault.device for fault in discovery.faults if fault.kind.withdraws}
        given = (d for d in discovery.devices if taken.isdisjoint((d.id, d.parent)))
        return dict(Counter(d.resource for d in given if d.resource))

    return count


@pytest.fixture
def device() -> FindDevice:
    """A discovery's device by its id."""

    def find(discovery: Discovery, address: str) -> Device:
        return {d.id: d for d in discovery.devices}[DeviceID(address)]

    return find


@pytest.fixture
def codes() -> Codes:
    """The faults of a discovery as (device, code)."""
    return lambda discovery: [(fault.device, fault.code) for fault in discovery.faults]
