"""The labels of Intel's feature rules and of its former GPU labeller, with their names and values.

Not written are `pci-groups`: the grouping was an option of the labeller's own. Values above 63
characters go on in `<name>2`, which begins with a Z. Source: intel-device-plugins-for-kubernetes,
deployments/nfd and cmd/gpu_nfdhook of 0.29.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device
from deviceplugin.vendor import LabelView
from deviceplugin.vendors.intel.gpu import VFIO_DRIVERS

PREFIX = "gpu.intel.com/"
MAX_VALUE = 63
_MODEL = re.compile(r".*\b(Flex|Max)(?:\s+Series)?\s+(140|170|1100|1550)\b.*")
Labels = dict[str, str]


def node_labels(host: Host, view: LabelView) -> Labels:
    """All labels of the GPUs that a driver of Intel's serves."""
    gpus = [d for d in view.devices if d.parent is None and d.driver not in VFIO_DRIVERS]
    if not gpus:
        return {}
    labels = {
        "intel.feature.node.kubernetes.io/gpu": "true",
        f"{PREFIX}device.count": str(len(gpus)),
        **_by_id(host, gpus),
        **_models(gpus),
    }
    return labels | {f"{PREFIX}{name}": value for name, value in _old(gpus).items()}


def _by_id(host: Host, gpus: Sequence[Device]) -> Labels:
    """`device-id.0300-9a49.count`: PCI class and device."""
    ids = Counter(f"{c}-{i}" for d in gpus if (c := _class(host, d)) and (i := _id(d)))
    found: Labels = {}
    for name, count in ids.items():
        found[f"{PREFIX}device-id.{name}.present"] = "true"
        found[f"{PREFIX}device-id.{name}.count"] = str(count)
    return found


def _class(host: Host, device: Device) -> str | None:
    try:
        number = host.read_int(f"{DEVICES}/{device.pci_address}/class")
    except DiscoveryError:
        return None
    return None if number is None else f"{number >> 8:04x}"


def _id(device: Device) -> str | None:
    return device.attributes.get("device_id", "").removeprefix("0x") or None


def _models(gpus: Sequence[Device]) -> Labels:
    """Flex 140 and 170, Max 1100 and 1550 alone have these; where all are of the same one."""
    models = {match.groups() if (match := _MODEL.match(d.product or "")) else None for d in gpus}
    model = models.pop() if len(models) == 1 else None
    if model is None:
        return {}
    return {f"{PREFIX}family": f"{model[0]}_Series", f"{PREFIX}product": "_".join(model)}


def _old(gpus: Sequence[Device]) -> Labels:
    cards = [name for d in gpus if (name := _card(d))]
    numbers = sorted(int(name.removeprefix("card")) for name in cards)
    found = {"millicores": str(1000 * len(gpus))}
    memory = [d.memory_bytes for d in gpus]
    if all(size is not None for size in memory):
        found["memory.max"] = str(sum(size or 0 for size in memory))
    tiles = [d.attributes.get("tiles", "") for d in gpus]
    if all(text.isdecimal() for text in tiles):
        found["tiles"] = str(sum(map(int, tiles)))
    if not cards:
        return found
    return {
        **found,
        **split("cards", ".".join(f"card{number}" for number in numbers)),
        **split("gpu-numbers", ".".join(map(str, numbers))),
        **split("numa-gpu-map", _numa_map(gpus)),
    }


def _card(device: Device) -> str | None:
    name = device.attributes.get("card", "").rpartition("/")[2]
    return name if re.fullmatch(r"card\d+", name) else None


def _numa_map(gpus: Sequence[Device]) -> str:
    """`0-0.1_1-2.3`: NUMA node, then its cards."""
    nodes: dict[int, list[int]] = {}
    for device in gpus:
        card = _card(device)
        if card and device.numa_node is not None:
            nodes.setdefault(device.numa_node, []).append(int(card.removeprefix("card")))
    parts = (f"{node}-{'.'.join(map(str, sorted(nodes[node])))}" for node in sorted(nodes))
    return "_".join(parts)


def split(name: str, value: str) -> Mapping[str, str]:
    """The value in as many labels as it takes; none for an empty one. A part ends where a label
    may end: on a letter or digit."""
    found: Labels = {}
    number = 1
    while value:
        key = name if number == 1 else f"{name}{number}"
        mark = "" if number == 1 else "Z"
        part = value[: MAX_VALUE - len(mark)]
        while len(part) > 1 and not part[-1].isalnum():
            part = part[:-1]
        found[key] = mark + part
        value, number = value[len(part) :], number + 1
    return found
