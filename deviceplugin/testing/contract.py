"""What every vendor must keep to, checked from outside: for our own vendors and third parties'.

assert contract_problems(create(Host(root), sections), Host(root)) == []
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from deviceplugin.host import Host
from deviceplugin.model import Device, Discovery
from deviceplugin.names import id_problem, name_problem
from deviceplugin.vendor import Vendor


def contract_problems(vendor: Vendor, host: Host) -> list[str]:
    """Each way in which `vendor`, looking at `host`, breaks the contract; none is the goal."""
    first, second = vendor.discover(), vendor.discover()
    problems = [] if first == second else ["discover() differs from call to call"]
    problems += _discovery_problems(vendor, first)
    for device in first.devices:
        problems += [f"{device.id}: {problem}" for problem in _device_problems(device, host)]
    taken = {fault.device for fault in first.faults if fault.kind.withdraws}
    given = (d for d in first.devices if taken.isdisjoint((d.id, d.parent)))
    offered = [device for device in given if device.resource]
    for devices in [*([d] for d in offered), *map(list, _pairs(offered))]:
        problems += _edit_problems(vendor, devices, host)
    return problems


def _discovery_problems(vendor: Vendor, discovery: Discovery) -> Iterator[str]:
    ids = [device.id for device in discovery.devices]
    if len(set(ids)) != len(ids):
        yield "two devices have the same id"
    for device in discovery.devices:
        if device.vendor != vendor.name:
            yield f"{device.id}: vendor is {device.vendor!r}, not {vendor.name!r}"
        if device.parent is not None and device.parent == device.id:
            yield f"{device.id}: is its own parent"
    for fault in discovery.faults:
        if not (fault.reason and fault.action):
            yield f"fault {fault.code}: a fault names its reason and what to do"
        if not fault.source.startswith(vendor.name):
            yield f"fault {fault.code}: source {fault.source!r} does not begin with the vendor"


def _device_problems(device: Device, host: Host) -> Iterator[str]:
    if problem := id_problem(device.id):
        yield f"the id cannot be used: {problem}"
    if device.resource is not None and (problem := name_problem(device.resource)):
        yield f"resource {device.resource!r}: {problem}"
    if device.numa_node is not None and device.numa_node < 0:
        yield "an unknown NUMA node is None, never negative"
    if device.memory_bytes == 0 or device.product in ("", "N/A"):
        yield "an unknown value is None, never 0, '' or 'N/A'"
    yield from (f"node {path} does not exist" for path in device.nodes if not host.exists(path))
    if str(host.root) != "/" and str(host.root) in repr(device):
        yield "the root under which the host is read leaks into the device"


def _edit_problems(vendor: Vendor, devices: Sequence[Device], host: Host) -> Iterator[str]:
    named = "+".join(device.id for device in devices)
    edits = vendor.container_edits(devices)
    if edits != vendor.container_edits(tuple(devices)):
        yield f"{named}: container_edits() differs from call to call"
    if not (edits.env or edits.device_nodes or edits.cdi_devices or edits.mounts):
        yield f"{named}: container_edits() gives the container nothing"
    for node in edits.device_nodes:
        if not host.exists(node.host_path):
            yield f"{named}: device node {node.host_path} does not exist"
        if not node.permissions or set(node.permissions) - set("rwm"):
            yield f"{named}: permissions {node.permissions!r} are not made of r, w and m"
    paths = [n.path for n in edits.device_nodes]
    if len(set(paths)) != len(paths):
        yield f"{named}: a path is given twice"
    if str(host.root) != "/" and str(host.root) in repr(edits):
        yield f"{named}: the root under which the host is read leaks into the answer"


def _pairs(devices: Sequence[Device]) -> Iterator[tuple[Device, Device]]:
    same = (p for p in combinations(devices, 2) if p[0].resource == p[1].resource)
    return (pair for pair, _ in zip(same, range(64), strict=False))
