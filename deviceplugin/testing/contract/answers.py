"""What holds of container edits and of CDI files."""

from collections.abc import Iterable, Iterator, Sequence

from deviceplugin.discovery.admission import checked_specs
from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, ContainerEdits, Device
from deviceplugin.names import cdi_device_problem
from deviceplugin.vendor import CdiSource, Vendor

NULL = "/dev/null"  # on every node; trees mostly leave it out


def edit_problems(vendor: Vendor, devices: Sequence[Device], host: Host) -> Iterator[str]:
    """What is wrong with what a container with these devices gets."""
    named = "+".join(device.id for device in devices)
    edits = vendor.container_edits(devices)
    if not isinstance(edits, ContainerEdits):
        yield f"{named}: container_edits() gives {type(edits).__name__}, not ContainerEdits"
        return
    if edits != vendor.container_edits(tuple(devices)):
        yield f"{named}: container_edits() differs from call to call"
    if not (edits.env or edits.device_nodes or edits.cdi_devices or edits.mounts):
        yield f"{named}: container_edits() gives the container nothing"
    yield from (f"{named}: {problem}" for problem in _content_problems(edits, host))


def _content_problems(edits: ContainerEdits, host: Host) -> Iterator[str]:
    yield from _path_problems("device node", edits.device_nodes, host)
    yield from _path_problems("mount", edits.mounts, host)
    for node in edits.device_nodes:
        if not node.permissions or set(node.permissions) - set("rwm"):
            yield f"permissions {node.permissions!r} are not made of r, w and m"
    for name in edits.cdi_devices:
        if problem := cdi_device_problem(name):
            yield f"CDI device {name!r}: {problem}"
    for variable in edits.env:
        if not variable or "=" in variable:
            yield f"{variable!r} is not the name of a variable"
    if str(host.root) != "/" and str(host.root) in repr(edits):
        yield "the root under which the host is read leaks into the answer"


def _path_problems(what: str, items: Iterable[object], host: Host) -> Iterator[str]:
    """Of device nodes or of mounts, which have the same two paths."""
    pairs = [(str(getattr(i, "path", "")), str(getattr(i, "host_path", ""))) for i in items]
    for path, host_path in pairs:
        if not host_path.startswith("/") or not (host_path == NULL or host.exists(host_path)):
            yield f"{what} {host_path} does not exist"
        if not path.startswith("/"):
            yield f"{what} {path!r} is not an absolute path in the container"
    if len({path for path, _ in pairs}) != len(pairs):
        yield "a path is given twice"


def cdi_problems(vendor: CdiSource, devices: Sequence[Device]) -> Iterator[str]:
    """What is wrong with the CDI files for all devices."""
    found = vendor.cdi_specs(devices)
    try:
        specs, refused = checked_specs(found)
    except DiscoveryError as error:
        yield str(error)
        return
    yield from (one.reason for one in refused)
    kinds = [spec.kind for spec in specs]
    yield from (
        f"CDI kind {kind} has two files" for kind in sorted(set(kinds)) if kinds.count(kind) > 1
    )
    if found != vendor.cdi_specs(devices):
        yield "cdi_specs() differs from call to call"


def unlisted_problems(edits: Iterable[ContainerEdits], specs: Sequence[CdiSpec]) -> Iterator[str]:
    """CDI names that containers get and that stand in no file of the vendor."""
    there = {f"{spec.kind}={name}" for spec in specs for name in spec.devices}
    named = {name for edit in edits for name in edit.cdi_devices}
    yield from (
        f"CDI device {name} stands in no file of cdi_specs()" for name in sorted(named - there)
    )
