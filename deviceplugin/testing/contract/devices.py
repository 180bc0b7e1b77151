"""What holds of a discovery, of each device in it, and of faults wherever they are reported."""

from collections.abc import Iterator, Mapping

from deviceplugin.discovery.admission import checked
from deviceplugin.discovery.values import fault_problem, link_problem
from deviceplugin.faults import FORMER_NAMES, code_problem
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Discovery, Fault
from deviceplugin.names import id_problem, name_problem


def discovery_problems(vendor: str, discovery: Discovery, host: Host) -> list[str]:
    """What is wrong with its devices and faults, alone and beside each other."""
    problems = [*_relation_problems(vendor, discovery), *_fault_problems(vendor, discovery)]
    for device in discovery.devices:
        problems += [f"{device.id}: {problem}" for problem in _device_problems(device, host)]
    _, refused = checked(vendor, discovery)
    return problems or [f"{one.device}: {one.reason}" for one in refused]


def _relation_problems(vendor: str, discovery: Discovery) -> Iterator[str]:
    by_id = {device.id: device for device in discovery.devices}
    if len(by_id) != len(discovery.devices):
        yield "two devices have the same id"
    for device in discovery.devices:
        if device.vendor != vendor:
            yield f"{device.id}: vendor is {device.vendor!r}, not {vendor!r}"
        yield from (f"{device.id}: {text}" for text in _parent_problems(device, by_id))
        for link in device.links:
            if problem := link_problem(device, link, by_id):
                yield f"{device.id}: {problem}"


def _parent_problems(device: Device, by_id: Mapping[DeviceID, Device]) -> Iterator[str]:
    if device.parent is None:
        return
    if device.parent == device.id:
        yield "is its own parent"
    elif device.parent not in by_id:
        yield f"its parent {device.parent!r} is not among the devices"
    elif by_id[device.parent].parent is not None:
        yield f"its parent {device.parent!r} is a part of another device itself"


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


def _fault_problems(vendor: str, discovery: Discovery) -> Iterator[str]:
    ids = {device.id for device in discovery.devices}
    for fault in discovery.faults:
        yield from fault_problems(vendor, fault, ids)


def fault_problems(vendor: str, fault: object, ids: set[DeviceID]) -> Iterator[str]:
    """What is wrong with a fault that a vendor reports, wherever it does; `ids` are its devices."""
    if problem := fault_problem(fault):
        yield problem
    if not isinstance(fault, Fault):
        return
    if not (fault.reason and fault.action):
        yield f"fault {fault.code}: a fault names its reason and what to do"
    if problem := fault_problem(fault, vendor) or _code_problem(fault):
        yield f"fault {fault.code}: {problem}"
    if fault.device not in ids:
        yield f"fault {fault.code}: {fault.device!r} is not a device of this vendor"


def _code_problem(fault: Fault) -> str | None:
    """Codes that 0.1 had otherwise are left alone for as long as they are known."""
    known = f"{fault.source}/{fault.code}" in FORMER_NAMES.values()
    return None if known else code_problem(fault.code)
