"""The monitoring resource: every node of every Intel GPU, once for each consumer."""

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendors.intel.gpu import DRM_DRIVERS, Gpu
from deviceplugin.vendors.intel.look import NAME, Look
from deviceplugin.vendors.intel.names import monitoring_name


def read_consumers(look: Look) -> tuple[Device, ...]:
    """One device a consumer, all with the same nodes; none where there are no nodes.

    These ids name a place and no hardware: a monitor holds all GPUs, whichever they are.
    """
    nodes = _read_nodes(look) if look.intel.monitoring else ()
    return tuple(
        Device(
            id=DeviceID(f"{NAME}-monitoring-{number}"),
            vendor=NAME,
            resource=monitoring_name(look.intel),
            nodes=nodes,
        )
        for number in range(look.intel.monitoring)
        if nodes
    )


def _read_nodes(look: Look) -> tuple[str, ...]:
    served = [gpu for gpu in look.gpus.values() if gpu.driver in DRM_DRIVERS]
    nodes = {node for gpu in served for node in (*gpu.nodes, *_read_mei_nodes(look.host, gpu))}
    return tuple(sorted(node for node in nodes if look.host.exists(node)))


def _read_mei_nodes(host: Host, gpu: Gpu) -> tuple[str, ...]:
    """The firmware interface of a GPU: `<driver>.mei-<name>.<number>/mei/mei<N>` below it."""
    try:
        parts = [name for name in host.read_names(gpu.path) if ".mei-" in name]
        found = [mei for part in parts for mei in host.read_names(f"{gpu.path}/{part}/mei")]
    except DiscoveryError:
        return ()  # firmware versions are the least that a monitor shows
    return tuple(f"/dev/{mei}" for mei in found)
