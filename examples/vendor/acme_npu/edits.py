"""What a container gets; pure: everything that it needs stands in the devices."""

from collections.abc import Iterable, Sequence

from acme_npu.section import AcmeSection
from deviceplugin.api import CdiSpec, ContainerEdits, Device, DeviceNode, frozen, merge_edits

CONTROL = "/dev/acme_ctl"
KIND = "acme.example/npu"


def edits_of(devices: Sequence[Device], section: AcmeSection) -> ContainerEdits:
    """Device nodes, the list of NPUs, and CDI names where they are asked for."""
    visible = ",".join(str(device.index) for device in devices)
    parts = [
        ContainerEdits(env=frozen({"ACME_VISIBLE_NPUS": visible})),
        _nodes([CONTROL]),
        *(_nodes(device.nodes) for device in devices),
    ]
    if section.cdi:
        parts.append(ContainerEdits(cdi_devices=tuple(f"{KIND}={d.id}" for d in devices)))
    return merge_edits(parts)


def cdi_spec(devices: Sequence[Device]) -> CdiSpec:
    """The CDI file of these NPUs."""
    named: dict[str, ContainerEdits] = {d.id: _nodes(d.nodes) for d in devices}
    return CdiSpec(kind=KIND, devices=named, common=_nodes([CONTROL]))


def _nodes(paths: Iterable[str]) -> ContainerEdits:
    nodes = tuple(DeviceNode(path=path, host_path=path) for path in paths)
    return ContainerEdits(device_nodes=nodes)
