"""CDI files as documents, and which vendor may write which kind; pure."""

import json
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from deviceplugin.model import CdiSpec, ContainerEdits, DeviceNode, Hook, Mount

# The lowest version that has everything used here (hostPath of device nodes came with 0.5.0):
# older runtimes refuse files of a version that they do not know.
VERSION = "0.5.0"


_MOUNT_OPTIONS = ("nosuid", "nodev", "rbind", "rprivate")


def file_name(kind: str) -> str:
    """The name of the file of a kind: `vendor-class.json`."""
    return f"{kind.replace('/', '-')}.json"


def usable(spec: CdiSpec) -> CdiSpec:
    """The spec without devices that have no edits of their own, as one whose nodes are missing:
    for one of those a runtime refuses the whole file (container-device-interface, pkg/cdi,
    Device.validate: "empty device edits")."""
    named = {name: edits for name, edits in spec.devices.items() if _edits(edits)}
    return replace(spec, devices=named)


def document(spec: CdiSpec) -> bytes:
    """The file's content: sorted, so that the same devices make the same bytes."""
    content: dict[str, Any] = {
        "cdiVersion": VERSION,
        "kind": spec.kind,
        "devices": [
            {"name": name, "containerEdits": _edits(spec.devices[name])}
            for name in sorted(spec.devices)
        ],
    }
    common = _edits(spec.common)
    if common:
        content["containerEdits"] = common
    return json.dumps(content, indent=2, sort_keys=True).encode() + b"\n"


def _edits(edits: ContainerEdits) -> dict[str, Any]:
    parts = {
        "env": [f"{name}={value}" for name, value in sorted(edits.env.items())],
        "deviceNodes": [_node(node) for node in edits.device_nodes],
        "mounts": [_mount(mount) for mount in edits.mounts],
        "hooks": [_hook(hook) for hook in edits.hooks],
    }
    return {key: value for key, value in parts.items() if value}


def _node(node: DeviceNode) -> dict[str, Any]:
    """Without numbers: the runtime takes them from the host's node, where they stay true."""
    return {"path": node.path, "hostPath": node.host_path, "permissions": node.permissions}


def _mount(mount: Mount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return {
        "hostPath": mount.host_path,
        "containerPath": mount.path,
        "options": [access, *_MOUNT_OPTIONS],
    }


def _hook(hook: Hook) -> dict[str, Any]:
    return {"hookName": hook.name, "path": hook.path, "args": list(hook.args)}


def precedes(vendor: str, other: str, order: Sequence[str]) -> bool:
    """Whether `vendor` comes before `other`; what `order` lacks comes last."""
    if vendor not in order:
        return False
    return other not in order or order.index(vendor) < order.index(other)
