"""Practices and protection, held against how the daemon runs and what the driver tells."""

from pathlib import Path
from typing import Any

import pytest

from deviceplugin.cli.surroundings import surroundings
from deviceplugin.cli.verdicts import only, verdicts, verdicts_text
from deviceplugin.host import Host
from deviceplugin.testing.tree import write_tree
from tests.reference.test_effects import A100, BLOCKS, REPORT

NODE = """
/sys/class/infiniband/mlx5_0/device -> ../../../devices/pci0000:16/0000:16:01.0/0000:17:00.0
/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/numa_node = 0
/sys/devices/pci0000:16/0000:16:01.0/0000:18:00.0/numa_node = 0
/sys/devices/pci0000:90/0000:91:00.0/numa_node = 1
/sys/bus/pci/devices/0000:17:00.0 -> ../../../devices/pci0000:16/0000:16:01.0/0000:17:00.0
/sys/bus/pci/devices/0000:18:00.0 -> ../../../devices/pci0000:16/0000:16:01.0/0000:18:00.0
/sys/bus/pci/devices/0000:91:00.0 -> ../../../devices/pci0000:90/0000:91:00.0
/sys/module/nvidia_peermem/
"""
OWN = """
/sys/fs/cgroup/memory.max = 536870912
/sys/fs/cgroup/cpu.max = max 100000
/var/run/secrets/kubernetes.io/serviceaccount/namespace = kube-system
"""


def gpus(*addresses: str) -> dict[str, Any]:
    return {"devices": [{"pci_address": address} for address in addresses]}


def test_the_surroundings_are_read_from_the_host_and_from_the_own_root(tmp_path: Path) -> None:
    host, own = tmp_path / "host", tmp_path / "own"
    write_tree(host, NODE)
    write_tree(own, OWN)
    found = surroundings(Host(host), Host(own), gpus("0000:18:00.0", "0000:91:00.0"))
    assert found == {
        "rdma": {"mlx5_0": "nearest GPU 0000:18:00.0: same board"},
        "peer_memory": ["nvidia_peermem"],
        "limits": {"memory": True, "cpu": False},
        "account": "kube-system",
    }


def test_a_host_without_any_of_it_tells_so(tmp_path: Path) -> None:
    empty = Host(tmp_path)
    found = surroundings(empty, empty, gpus())
    assert found == {"rdma": {}, "peer_memory": [], "limits": {}, "account": None}
    shown = verdicts({}, str(BLOCKS / "9.3.1.yaml"), REPORT | {"host": found})
    (one,) = rows(shown, "network_optimization.settings.rdma_enabled")
    assert (one["met"], one["measured"]) == (False, "no RDMA device")


def rows(shown: Any, key: str) -> list[Any]:
    return [one for document in only(shown, key)["documents"] for one in document["keys"]]


def with_mode(*modes: str | None) -> dict[str, Any]:
    told = [{"confidential_computing": mode} if mode else {} for mode in modes]
    devices = [A100 | {"attributes": A100["attributes"] | one} for one in told]
    return REPORT | {"devices": devices}


@pytest.mark.parametrize(
    ("modes", "met", "measured"),
    [
        (("on",), True, "confidential computing: on"),
        (("off",), False, "confidential computing: off"),
        (("devtools",), False, "confidential computing: devtools"),
        (("on", "off"), False, "confidential computing: off, on"),
        ((None,), None, "confidential computing: unknown"),
    ],
)
@pytest.mark.parametrize(
    ("block", "key"),
    [("8.1.1", "security.encryption.enabled"), ("8.2.1", "data_protection.encryption.in_use")],
)
def test_a_claim_that_is_refused_shows_what_the_driver_tells(
    block: str, key: str, modes: tuple[str | None, ...], met: bool | None, measured: str
) -> None:
    shown = verdicts({}, str(BLOCKS / f"{block}.yaml"), with_mode(*modes))
    (one,) = rows(shown, key)
    assert (one["verdict"], one["met"], one["measured"]) == ("refused", met, measured)
    assert f"on this node: {measured}" in verdicts_text(shown)


def test_mechanisms_of_isolation_show_ecc_and_what_no_driver_tells() -> None:
    shown = verdicts({}, str(BLOCKS / "8.1.1.yaml"), with_mode("off"))
    (one,) = rows(shown, "security.isolation.mechanisms")
    assert one["measured"] == (
        "nvidia.com/gpu: yes; ECC: unknown; confidential computing: off;"
        " memory scrubbing: unknown, no driver tells it"
    )


def test_the_bandwidth_that_the_driver_tells_counts_before_the_data_sheet() -> None:
    told = A100 | {"attributes": {"memory_bandwidth": "800 GB/s"}}
    shown = verdicts({}, str(BLOCKS / "1.3.1.yaml"), REPORT | {"devices": [told]})
    (one,) = rows(shown, "performance.memory_bandwidth")
    assert (one["met"], one["measured"]) == (False, "NVIDIA A100-SXM4-40GB: 800 GB/s")
