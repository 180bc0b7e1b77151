"""The vendor-neutral labels of a node, and the short names that clusters select on; pure.

A node with several models has no value for what differs, but a count for each of them: the value
of one would be wrong for the others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from deviceplugin.labels.labels import isolation_labels
from deviceplugin.labels.values import MAX_NAME, label_value, merged, slug
from deviceplugin.model import Device, Inventory
from deviceplugin.resources.plan import Resources
from deviceplugin.vendor.labels import LABEL_PREFIX

_MIB, _GIB = 1 << 20, 1 << 30
_MAX_MODEL = MAX_NAME - len("model..memory")


class NodeView(Struct, frozen=True, kw_only=True):
    """What the node has and offers."""

    inventory: Inventory
    resources: Resources

    @property
    def whole(self) -> Sequence[Device]:
        """The devices that are no part of another one."""
        return [d for d in self.inventory.devices.values() if d.parent is None]


def own_labels(view: NodeView) -> dict[str, str]:
    """`deviceplugin/gpu.count: 8` and the like, and the isolation of each resource; nothing at all
    on a node without a device."""
    whole = view.whole
    if not whole:
        return {}
    found: Mapping[str, str | None] = {
        "gpu.present": "true",
        "gpu.count": str(len(whole)),
        "gpu.vendor": _only(d.vendor for d in whole),
        "gpu.product": _only(label_value(d.product) for d in whole),
        "gpu.memory": _only(_mib(d) for d in whole),
        "gpu.architecture": _only(label_value(d.architecture) for d in whole),
        **_counted(whole),
        **_models(whole),
        **_partitions(view.inventory.devices.values()),
        **_versions(view.inventory, {d.vendor for d in whole}),
    }
    ours = {f"{LABEL_PREFIX}/{name}": value for name, value in found.items()}
    return merged(ours, isolation_labels(view.resources))


def common_labels(view: NodeView, node_type: str) -> dict[str, str]:
    """`accelerator`, `gpu-type`, `gpu.memory`, `gpu.count` and `node-type`.

    These have one value for a node: on one with several models that of the model with the most
    GPUs, by name where two have as many.
    """
    models = Counter(d.product for d in view.whole if d.product)
    if not models:
        return {"node-type": node_type} if view.whole else {}
    product = min(models, key=lambda name: (-models[name], name))
    memory = _only(_gib(d) for d in view.whole if d.product == product)
    found: Mapping[str, str | None] = {
        "accelerator": slug(product),
        "gpu-type": slug(product),
        "gpu.count": str(models[product]),
        "gpu.memory": memory,
        "node-type": node_type,
    }
    return merged(found)


def _only(values: Iterable[str | None]) -> str | None:
    """The value that all have."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _mib(device: Device) -> str | None:
    return None if device.memory_bytes is None else str(device.memory_bytes // _MIB)


def _gib(device: Device) -> str | None:
    """As the hardware is sold: a driver shows a little less than that."""
    size = device.memory_bytes
    return None if size is None else f"{max(1, -(-size // _GIB))}GiB"


def _counted(whole: Sequence[Device]) -> Mapping[str, str]:
    return {f"gpu.vendor.{v}": str(n) for v, n in Counter(d.vendor for d in whole).items()}


def _models(whole: Sequence[Device]) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    named = [((label_value(d.product) or "")[:_MAX_MODEL].rstrip("-_."), d) for d in whole]
    for name in {name for name, _ in named if name}:
        mine = [device for of, device in named if of == name]
        found[f"model.{name}.count"] = str(len(mine))
        found[f"model.{name}.memory"] = _only(_mib(d) for d in mine)
    return found


def _partitions(devices: Iterable[Device]) -> Mapping[str, str]:
    profiles = (label_value((d.profile or "").replace("+", ".")) for d in devices if d.parent)
    counts = Counter(name for name in profiles if name)
    return {f"partition.{name}.count": str(n) for name, n in counts.items()}


def _versions(inventory: Inventory, vendors: set[str]) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for name in vendors & inventory.vendors.keys():
        status = inventory.vendors[name]
        found[f"{name}.driver-version"] = label_value(status.driver_version)
        found[f"{name}.runtime-version"] = label_value(status.library_version)
    return found
