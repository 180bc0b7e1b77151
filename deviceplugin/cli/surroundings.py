"""What no vendor tells and documents ask about: RDMA devices and how near GPUs are, modules for
peer memory, and how this process is deployed."""

from collections.abc import Mapping, Sequence
from typing import Any

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import read_nic_address, read_numa_node, read_pci_path
from deviceplugin.placement.topology import LEVEL_NAMES, Place, pcie_level

PEER_MODULES = ("nvidia_peermem", "nv_peer_mem", "ib_peer_mem")
_CGROUP = "/sys/fs/cgroup"  # of this process: the root of a container's own namespace
_LIMITS = {"memory": "memory.max", "cpu": "cpu.max", "processes": "pids.max"}
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


def surroundings(host: Host, own: Host, report: Mapping[str, Any]) -> dict[str, Any]:
    """The part `host` of a report; `own` is what this process itself sees as its root."""
    addresses = sorted({d["pci_address"] for d in report["devices"] if d["pci_address"]})
    return {
        "rdma": {name: _nearest(host, name, addresses) for name in _names(host)},
        "peer_memory": [name for name in PEER_MODULES if host.exists(f"/sys/module/{name}")],
        "limits": _limits(own),
        "account": _line(own, _ACCOUNT),
    }


def _names(host: Host) -> Sequence[str]:
    try:
        return sorted(host.read_names("/sys/class/infiniband"))
    except DiscoveryError:
        return ()


def _nearest(host: Host, name: str, gpus: Sequence[str]) -> str | None:
    """The nearest GPU of an RDMA device in words, None where nothing tells."""
    address = read_nic_address(host, name)
    if address is None or not gpus:
        return None
    place = _place(host, address)
    levels = {gpu: pcie_level(_place(host, gpu), place) for gpu in gpus}
    near = min(gpus, key=lambda gpu: levels[gpu])
    return f"nearest GPU {near}: {LEVEL_NAMES[levels[near]]}"


def _place(host: Host, address: str) -> Place:
    return Place(path=read_pci_path(host, address), numa_node=read_numa_node(host, address))


def _limits(own: Host) -> Mapping[str, bool]:
    """Whether each resource of this process is limited, where its cgroup tells."""
    found = {name: _line(own, f"{_CGROUP}/{file}") for name, file in _LIMITS.items()}
    return {name: not text.startswith("max") for name, text in found.items() if text is not None}


def _line(host: Host, path: str) -> str | None:
    try:
        return host.read_line(path)
    except DiscoveryError:
        return None
