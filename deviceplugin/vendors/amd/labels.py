"""The labels of AMD's node labeller, with its names and values, from the files that it reads.

One value: `amd.com/gpu.<kind>=<value>`; several: `amd.com/gpu.<kind>.<value>=<count>`. The old
names with `beta.` carry the count always. Names and values: ROCm/k8s-device-plugin,
cmd/k8s-node-labeller. Of `firmware` the files have the versions and not the features.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device
from deviceplugin.vendor import LabelView
from deviceplugin.vendors.amd.gpus import AMDGPU, GIM
from deviceplugin.vendors.amd.kfd import FIRST_RENDER_MINOR, parse_properties

PREFIX = "amd.com/gpu."
VFIO = "vfio-pci"
_GIB = 1 << 30
_DROPPED = re.compile(r"[^A-Za-z0-9_.-]")
# libdrm's family of the architecture; of newer ones the labeller has no name.
_FAMILIES = (
    (re.compile(r"gfx90[29c]"), "RV"),
    (re.compile(r"gfx9.*"), "AI"),
    (re.compile(r"gfx10.*"), "NV"),
    (re.compile(r"gfx80.*"), "VI"),
)
# sysfs has the firmware's short name; the labeller writes it in capitals.
_FIRMWARE = re.compile(r"([a-z0-9_]+)_fw_version")
Kinds = Mapping[str, Counter[str]]
Labels = dict[str, str]


def node_labels(host: Host, view: LabelView) -> Labels:
    """All labels of the physical GPUs, or of what is passed to virtual machines."""
    whole = [d for d in view.devices if d.parent is None and d.pci_address]
    if not whole:
        return {}
    labels = {f"{PREFIX}mode": _mode(view.devices), "feature.node.kubernetes.io/amd-gpu": "true"}
    driver = AMDGPU if any(d.driver == AMDGPU for d in whole) else GIM
    module = {
        "driver-version": _line(host, f"/sys/module/{driver}/version"),
        "driver-src-version": _line(host, f"/sys/module/{driver}/srcversion"),
    }
    for kind, value in module.items():
        if word := _word((value or "").partition("+")[0]):
            labels |= {f"{PREFIX}{kind}": word, f"beta.{PREFIX}{kind}": word}
    for kind, counts in _kinds(host, whole, _architectures(view.devices)).items():
        labels |= _labels(kind, counts)
    return labels | _firmware(host, whole)


def _labels(kind: str, counts: Mapping[str, int]) -> Labels:
    """A kind of which every GPU has a value, or some."""
    old = {f"beta.{PREFIX}{kind}.{value}": str(n) for value, n in counts.items()}
    if len(counts) == 1:
        (value,) = counts
        return {f"{PREFIX}{kind}": value, f"beta.{PREFIX}{kind}": value, **old}
    return {f"{PREFIX}{kind}.{value}": str(n) for value, n in counts.items()} | old


def _mode(devices: Sequence[Device]) -> str:
    """Who uses the GPUs: containers, or virtual machines by functions or whole."""
    if all(d.driver == VFIO for d in devices if d.parent is None):
        return "pf-passthrough"
    if any(d.driver == VFIO and d.parent for d in devices):
        return "vf-passthrough"
    return "container"


def _architectures(devices: Sequence[Device]) -> Mapping[str, str]:
    """Of each GPU; of one that is partitioned its partitions alone say it."""
    return {d.parent or d.id: d.architecture for d in devices if d.architecture}


def _kinds(host: Host, whole: Sequence[Device], architectures: Mapping[str, str]) -> Kinds:
    simds = _simds(host)
    readers: Mapping[str, Callable[[Device], str | None]] = {
        "family": lambda d: _family(architectures.get(d.id, "")),
        "device-id": lambda d: _device_id(host, d),
        "product-name": lambda d: _word(_product(host, d)),
        "vram": lambda d: f"{round(d.memory_bytes / _GIB)}G" if d.memory_bytes else None,
        "cu-count": lambda d: d.attributes.get("compute_units") or _total(simds, d, 1),
        "simd-count": lambda d: _total(simds, d, 0),
        "compute-partitioning-supported": lambda d: _flag(
            _line(host, _file(d, "available_compute_partition"))
        ),
        "memory-partitioning-supported": lambda d: _flag(
            _line(host, _file(d, "available_memory_partition"))
        ),
    }
    found = {kind: _count(map(read, whole)) for kind, read in readers.items()}
    modes = {_partitions(d) for d in whole}
    if len(modes) == 1 and (mode := modes.pop()):
        found["compute-memory-partition"] = Counter({mode: len(whole)})
    return {kind: counts for kind, counts in found.items() if counts}


def _count(values: Iterable[str | None]) -> Counter[str]:
    return Counter(value for value in values if value)


def _partitions(device: Device) -> str | None:
    """`cpx_nps4`."""
    modes = (device.attributes.get(f"{kind}_partition") for kind in ("compute", "memory"))
    words = [mode.lower() for mode in modes if mode]
    return "_".join(words) if len(words) == 2 else None


def _family(architecture: str) -> str | None:
    return next((name for pattern, name in _FAMILIES if pattern.fullmatch(architecture)), None)


def _device_id(host: Host, device: Device) -> str | None:
    number = _line(host, _file(device, "device"))
    return number.removeprefix("0x").lower() if number else None


def _product(host: Host, device: Device) -> str | None:
    return _line(host, _file(device, "product_name")) or device.product


def _word(text: str | None) -> str | None:
    """As the labeller cleans names, and so that Kubernetes takes it: blanks become `_`."""
    words = _DROPPED.sub("", "_".join((text or "").split()))
    return words.strip("-_.")[:40].rstrip("-_.") or None


def _flag(value: str | None) -> str | None:
    return "true" if value else None


def _file(device: Device, name: str) -> str:
    return f"{DEVICES}/{device.pci_address}/{name}"


def _line(host: Host, path: str) -> str | None:
    """A label less is no harm."""
    try:
        return host.read_line(path)
    except DiscoveryError:
        return None


def _simds(host: Host) -> Mapping[str, tuple[int, int]]:
    """SIMDs and compute units of all nodes of each GPU, by `domain:bus:slot`."""
    found: dict[str, tuple[int, int]] = {}
    for properties in _nodes(host):
        location = properties.get("location_id", 0)
        domain = properties.get("domain", 0)
        place = f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}"
        simds = properties.get("simd_count", 0)
        before = found.get(place, (0, 0))
        units = simds // (properties.get("simd_per_cu") or 1)
        found[place] = (before[0] + simds, before[1] + units)
    return found


def _nodes(host: Host) -> Iterator[Mapping[str, int]]:
    try:
        for name in host.read_names(f"{TOPOLOGY}/nodes"):
            text = host.read_text(f"{TOPOLOGY}/nodes/{name}/properties")
            properties = parse_properties(text or "")
            if properties.get("drm_render_minor", 0) >= FIRST_RENDER_MINOR:
                yield properties
    except DiscoveryError:
        return


def _total(simds: Mapping[str, tuple[int, int]], device: Device, which: int) -> str | None:
    found = simds.get((device.pci_address or "").rpartition(".")[0])
    return str(found[which]) if found else None


def _firmware(host: Host, whole: Sequence[Device]) -> Labels:
    """`beta.amd.com/gpu.firmware.MEC.fw.352=8`."""
    counts: Counter[tuple[str, int]] = Counter()
    for device in whole:
        folder = _file(device, "fw_version")
        try:
            matches = filter(None, map(_FIRMWARE.fullmatch, host.read_names(folder)))
            names = [match[1] for match in matches]
        except DiscoveryError:
            continue
        for name in names:
            version = _line(host, f"{folder}/{name}_fw_version")
            if version and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", version):
                counts[name.upper(), int(version, 16)] += 1
    return {
        f"beta.{PREFIX}firmware.{name}.fw.{version}": str(n)
        for (name, version), n in sorted(counts.items())
        if version
    }
