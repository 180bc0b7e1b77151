"""The labels of Intel's feature rules and of its former labeller."""

from pathlib import Path

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, frozen
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import LabelView
from deviceplugin.vendors.intel.labels import node_labels, split
from tests.labels.nodes import recorded


def test_a_recorded_b60_has_intels_labels(tmp_path: Path) -> None:
    assert recorded("simulated-b60-x1", "intel", tmp_path) == {
        "intel.feature.node.kubernetes.io/gpu": "true",
        "gpu.intel.com/device-id.0300-e211.present": "true",
        "gpu.intel.com/device-id.0300-e211.count": "1",
        "gpu.intel.com/device.count": "1",
        "gpu.intel.com/millicores": "1000",
        "gpu.intel.com/memory.max": "25769803776",
        "gpu.intel.com/tiles": "1",
        "gpu.intel.com/cards": "card1",
        "gpu.intel.com/gpu-numbers": "1",
        "gpu.intel.com/numa-gpu-map": "0-1",
    }


def card(number: int, product: str, numa: int, **more: str) -> Device:
    attributes = {"card": f"/dev/dri/card{number}", "tiles": "2", "device_id": "0x0bd5"} | more
    return Device(
        id=DeviceID(f"0000:0{number}:00.0"),
        vendor="intel",
        product=product,
        pci_address=f"0000:0{number}:00.0",
        numa_node=numa,
        memory_bytes=128 << 30,
        driver="i915",
        attributes=frozen(attributes),
    )


def labels(root: Path, *devices: Device) -> dict[str, str]:
    addresses = [device.pci_address for device in devices]
    write_tree(root, "".join(f"/sys/bus/pci/devices/{a}/class = 0x038000\n" for a in addresses))
    return node_labels(Host(root), LabelView(devices=devices))


def test_the_cards_of_two_numa_nodes(tmp_path: Path) -> None:
    name = "Intel Data Center GPU Max 1550"
    cards = [card(n, name, n // 2) for n in range(4)]
    found = labels(tmp_path, *cards)
    expected = {
        "gpu.intel.com/numa-gpu-map": "0-0.1_1-2.3",
        "gpu.intel.com/cards": "card0.card1.card2.card3",
        "gpu.intel.com/gpu-numbers": "0.1.2.3",
        "gpu.intel.com/tiles": "8",
        "gpu.intel.com/millicores": "4000",
        "gpu.intel.com/family": "Max_Series",
        "gpu.intel.com/product": "Max_1550",
        "gpu.intel.com/device-id.0380-0bd5.count": "4",
    }
    assert found | expected == found


def test_a_product_is_named_where_all_gpus_are_of_it(tmp_path: Path) -> None:
    flex = card(0, "Intel Data Center GPU Flex 170", 0)
    assert "gpu.intel.com/product" in labels(tmp_path / "a", flex)
    other = labels(tmp_path / "b", flex, card(1, "Intel Arc Pro B60", 0))
    assert "gpu.intel.com/product" not in other


def test_a_long_value_goes_on_in_another_label() -> None:
    value = ".".join(f"card{number}" for number in range(16))
    parts = split("cards", value)
    assert list(parts) == ["cards", "cards2"]
    assert parts["cards2"].startswith("Z")
    assert parts["cards"] + parts["cards2"][1:] == value


def test_a_gpu_that_virtual_machines_get_has_no_label(tmp_path: Path) -> None:
    assert labels(tmp_path) == {}
