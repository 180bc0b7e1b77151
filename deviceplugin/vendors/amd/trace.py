"""What of a discovery's reads need not be read again to know that nothing has changed."""

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm import MINORS
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.vendors.amd.kfd import read_generation

_BURNT_IN = ("/unique_id", "/product_name", "/mem_info_vram_total")
# The kernel counts a generation whenever a node, which is a partition, comes or goes.
_COUNTED = (f"{TOPOLOGY}/nodes/", f"{MINORS}/renderD")


def trace_of(host: Host) -> TracingHost:
    """A host for one discovery. Of KFD's nodes and the render minors of partitions it holds the
    names and the generation, and everything where these cannot be read."""
    if read_generation(host) is None:
        return traced(host)
    trace = traced(host, _is_constant)
    try:
        trace.read_names(MINORS)
    except DiscoveryError:  # a discovery can do without the names
        return traced(host)
    return trace


def _is_constant(path: str) -> bool:
    return path.startswith(_COUNTED) or path.endswith(_BURNT_IN)
