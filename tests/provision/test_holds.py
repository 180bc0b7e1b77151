"""Which devices are of which GPU, as their vendors name them, and who holds them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import AdvertisedID, DeviceID, ResourceName
from deviceplugin.provision.ledger import Holds
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import in_use_as
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.vendor.partitions import PartitionedGpu
from tests.fakes.nvml import NvmlDouble, Scenario, h200, with_mig, write_host_tree


def amd(root: Path) -> str:
    gpu = SimulatedGpu(address="0000:63:00.0", model=MI300X, mode="CPX")
    write_amd_node(root, [gpu, SimulatedGpu(address="0000:83:00.0", model=MI300X)])
    return gpu.address


def intel(root: Path) -> str:
    write_intel_node(root, B60)
    set_vfs(root, B60, 4)
    return B60.address


def nvidia(root: Path) -> str:
    gpus = (with_mig(h200(0), ["3g.71gb", "1g.18gb", "1g.18gb"]), h200(1))
    double = NvmlDouble(root, scenario=Scenario(gpus=gpus))
    write_host_tree(root, double.scenario)
    return double.scenario.gpus[0].uuid


NODES: Mapping[str, tuple[Callable[[Path], str], int]] = {
    "amd": (amd, 8),
    "intel": (intel, 4),
    "nvidia": (nvidia, 3),
}


def discovered(name: str, root: Path) -> InventoryStore:
    (module,) = load_vendors((name,))
    sections: dict[str, Any] = {}
    vendor = module.create(Host(root), decode_sections(sections, module.SECTIONS))
    store = InventoryStore(lambda: 0.0)
    store.set_devices(name, vendor.discover().devices)
    return store


@pytest.mark.parametrize("name", NODES)
def test_a_gpu_is_known_with_all_of_its_parts(name: str, tmp_path: Path) -> None:
    write, parts = NODES[name]
    gpu = write(tmp_path)
    store, ledger = discovered(name, tmp_path), Ledger(lambda: 0.0)
    holds = Holds(store, ledger)
    devices = holds.devices({gpu})
    names = {gpu, *(d.pci_address for d in store.current.devices.values() if d.id == gpu)}
    offered = [d for d in devices if store.current.devices[d].resource is not None]
    assert len(offered) == parts
    for device in offered:
        key = (ResourceName("r"), AdvertisedID(device))
        before = ledger.reserve([key])
        (held,) = holds.held()
        assert (held.device, held.holder) == (device, "r")
        assert held.gpu in names
        ledger.give_back([key], before)


def partitioned(name: str, gpu: str) -> PartitionedGpu:
    """With the id alone: an address is another word for it, or none of this node."""
    return PartitionedGpu(id=gpu, vendor=name, product="", index=0, address=gpu, device="")


def test_what_is_kept_nobody_gets_and_what_is_held_is_not_kept(tmp_path: Path) -> None:
    gpu = partitioned("nvidia", nvidia(tmp_path))
    store, ledger = discovered("nvidia", tmp_path), Ledger(lambda: 0.0)
    holds = Holds(store, ledger)
    parts = [d for d in store.current.devices.values() if d.parent == gpu.id]
    assert holds.take(gpu, [parts[0].id], whole=()) == ""
    form = (ResourceName("r"), "whole")
    assert in_use_as(ledger.usage.value, parts[0], form, ()) == "partitioning"
    assert in_use_as(ledger.usage.value, parts[1], form, ()) is None
    ledger.reserve([(ResourceName("r"), AdvertisedID(parts[1].id))])
    holds.release(gpu.id)
    assert holds.take(gpu, (), whole={gpu.id}) == "r"
    assert in_use_as(ledger.usage.value, parts[0], form, ()) is None


def test_a_drain_lists_what_is_free_and_leaves_what_is_held(tmp_path: Path) -> None:
    gpu = partitioned("nvidia", nvidia(tmp_path))
    store, ledger = discovered("nvidia", tmp_path), Ledger(lambda: 0.0)
    holds = Holds(store, ledger)
    parts = sorted(d.id for d in store.current.devices.values() if d.parent == gpu.id)
    ledger.reserve([(ResourceName("r"), AdvertisedID(parts[0]))])
    holds.drain([gpu])
    assert sorted(store.current.faults) == parts[1:]
    assert DeviceID(gpu.id) not in store.current.faults
    holds.drain(())
    assert not store.current.faults
