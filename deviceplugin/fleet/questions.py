"""What is asked of the store: an hour's values at its end; and the rules that record them, pure.

Names are those of docs/metrics.md, and of node_exporter for network and storage.
"""

from collections.abc import Mapping
from typing import Any

_GPU = "deviceplugin_gpu_"
# A GPU that is cut into partitions cannot be had as a whole.
_CUT = (
    f'label_replace(max by (parent) (max_over_time({_GPU}info{{parent!=""}}[1h])),'
    ' "uuid", "$1", "parent", "(.+)")'
)
_WHERE = "uuid, vendor, model, node, instance"
# A share is weighted by the part of the hour in which its pod was there.
_PRESENT = f"max by (uuid) (count_over_time({_GPU}up[1h]))"


def _there(which: str) -> str:
    return f"max by ({_WHERE}) (max_over_time({_GPU}up{{{which}}}[1h]))"


def _held(which: str) -> str:
    share = f"sum_over_time({_GPU}pod_allocated_ratio{{{which}}}[1h])"
    return f"({share} / on (uuid) group_left () {_PRESENT})"


_OF_PODS = "vendor, namespace, exported_namespace"
_OF_NODES = "vendor, model, node, instance"
_WHOLE, _PARTS = 'partition=""', 'partition!=""'
_NETWORK = 'device!~"lo|veth.*|cali.*|cni.*|docker.*|flannel.*"'
_STORAGE = 'fstype!~"tmpfs|overlay|squashfs|ramfs"'
QUERIES: Mapping[str, str] = {
    "gpu_used": f"sum by ({_OF_PODS}) {_held(_WHOLE)}",
    "gpu_capacity": f"sum by ({_OF_NODES}) ({_there(_WHOLE)} unless on (uuid) {_CUT})",
    "gpu_node_used": f"sum by ({_OF_NODES}) {_held(_WHOLE)}",
    "partition_used": f"sum by ({_OF_PODS}) {_held(_PARTS)}",
    "partition_capacity": f"sum by ({_OF_NODES}) ({_there(_PARTS)})",
    "memory_used": (
        f"sum by (vendor) (max by (uuid, vendor)"
        f" (avg_over_time({_GPU}memory_used_bytes{{{_WHOLE}}}[1h])))"
    ),
    "memory_capacity": (
        f"sum by ({_OF_NODES}) (max by ({_WHERE})"
        f" (max_over_time({_GPU}memory_total_bytes{{{_WHOLE}}}[1h])))"
    ),
    "network_used": f"sum (rate(node_network_transmit_bytes_total{{{_NETWORK}}}[1h]))",
    "network_capacity": f"sum (max_over_time(node_network_speed_bytes{{{_NETWORK}}}[1h]) > 0)",
    "storage_used": (
        f"sum (avg_over_time(node_filesystem_size_bytes{{{_STORAGE}}}[1h])"
        f" - avg_over_time(node_filesystem_avail_bytes{{{_STORAGE}}}[1h]))"
    ),
    "storage_capacity": f"sum (max_over_time(node_filesystem_size_bytes{{{_STORAGE}}}[1h]))",
}
# Shorter than the five minutes for which a store shows a value.
INTERVAL = "4m"


def recorded(name: str) -> str:
    """The series under which the rules keep a query."""
    return f"deviceplugin_fleet:{name}:1h"


def rules() -> dict[str, Any]:
    """The recording rules, as Prometheus reads them."""
    found = [{"record": recorded(name), "expr": query} for name, query in QUERIES.items()]
    return {"groups": [{"name": "deviceplugin-fleet", "interval": INTERVAL, "rules": found}]}
