"""The labels of NVIDIA's GPU feature discovery, with its names and values; pure.

A node with several models has one set, as there: that of the model with the most GPUs, by name
where two have as many. GFD takes another one each minute. Names and values: its README and
internal/lm.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct, field

from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor.labels import LABEL_PREFIX, LabelView
from deviceplugin.vendors.nvidia.mig import resource_suffix
from deviceplugin.vendors.nvidia.vgpu_host import is_for_vm

PREFIX = "nvidia.com/"
WHOLE = "nvidia.com/gpu"
CLIQUE = "fabric_clique"
_FAMILIES = {
    "1": "tesla",
    "2": "fermi",
    "3": "kepler",
    "5": "maxwell",
    "6": "pascal",
    "9": "hopper",
    "10": "blackwell",
    "12": "blackwell",
    "13": "rubin",
}
_ENGINES = ("copy", "decoder", "encoder", "jpeg", "ofa")
_DROPPED = re.compile(r"[^A-Za-z0-9_. -]")
_MIB = 1 << 20
Labels = dict[str, str]


class NodeFacts(Struct, frozen=True, kw_only=True):
    """What the labels need besides devices: the MIG strategy, the machine's name, the CUDA version
    of the driver (12040), the PCI classes of GPUs by address, when the daemon started (Unix
    seconds), and version and branch of a vGPU's host driver."""

    mig_strategy: str
    machine: str | None = None
    cuda: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    started: int | None = None
    host_driver: tuple[str, str] | None = None


def node_labels(view: LabelView, facts: NodeFacts) -> Labels:
    """All labels, without those whose value is not known; none for a node without a GPU."""
    whole = [d for d in view.devices if d.parent is None and not is_for_vm(d)]
    if not whole:
        return {}
    models = Counter(d.product for d in whole)
    product = min(models, key=lambda name: (-models[name], name or ""))
    model = [d for d in whole if d.product == product]
    sharing = Sharing.of(view)
    found = {
        **_versions(view, facts),
        "gpu.machine": clean(facts.machine) or "unknown",
        **_gpu(model, sharing, facts),
        "mig.capable": _flag(any("mig" in d.attributes for d in whole)),
        "mps.capable": _flag(sharing.mps and not any(d.parent for d in view.devices)),
        **_vgpu(whole, facts),
        **_mig(view.devices, sharing, facts.mig_strategy),
    }
    labels = {f"{PREFIX}{name}": value for name, value in found.items()}
    clique = link_domain(whole)
    own = {f"{PREFIX}gpu.clique": clique, f"{LABEL_PREFIX}/link-domain": clique} if clique else {}
    return labels | own


def link_domain(whole: Iterable[Device]) -> str | None:
    """Cluster and clique of the NVLink fabric, where all GPUs are in the same one."""
    cliques = {d.attributes.get(CLIQUE) for d in whole}
    return cliques.pop() if len(cliques) == 1 else None


def clean(text: str | None) -> str:
    """As GFD cleans names, and cut so that Kubernetes takes it."""
    words = "-".join(_DROPPED.sub("", text or "").split())
    return words.strip("-_.")[:63].rstrip("-_.")


class Sharing(Struct, frozen=True, kw_only=True):
    """How many ids each device has under the name of a whole one or of another, and by what."""

    counts: Mapping[DeviceID, int]
    methods: Mapping[DeviceID, str]
    renamed: frozenset[DeviceID]

    @classmethod
    def of(cls, view: LabelView) -> "Sharing":
        """That of the plan."""
        names = {d.id: d.resource for d in view.devices}
        entries = [(r.name, e) for r in view.resources for e in r.devices]
        shared = [(name, e) for name, e in entries if e.share is not None]
        return cls(
            counts=Counter(e.device for _, e in entries),
            methods={
                e.device: (e.share.method if e.share else None) or "time-slicing" for _, e in shared
            },
            renamed=frozenset(e.device for name, e in shared if name != names.get(e.device)),
        )

    @property
    def mps(self) -> bool:
        """Whether MPS is in use."""
        return "mps" in self.methods.values()

    def labels(self, device: Device) -> Labels:
        """The count of ids of such a device, and how it is shared."""
        method = self.methods.get(device.id, "none")
        return {"replicas": str(self.counts.get(device.id, 0)), "sharing-strategy": method}

    def product(self, device: Device, name: str) -> str:
        """The name, which says that the device is shared where its resource does not."""
        shared = device.id in self.methods and device.id not in self.renamed
        return f"{name[:56]}-SHARED" if shared else name


def _flag(value: object) -> str:
    return "true" if value else "false"


def _versions(view: LabelView, facts: NodeFacts) -> Labels:
    """The deprecated names too: selectors of old clusters have them."""
    parts = [*(view.driver_version or "").split("."), "", ""][:3]
    found: Labels = {}
    if view.driver_version:
        names = zip(("major", "minor", "revision"), parts, strict=True)
        found |= {f"cuda.driver-version.{name}": part for name, part in names}
        found["cuda.driver-version.full"] = view.driver_version
        names = zip(("major", "minor", "rev"), parts, strict=True)
        found |= {f"cuda.driver.{name}": part for name, part in names}
    if facts.cuda is not None:
        major, minor = str(facts.cuda // 1000), str(facts.cuda % 1000 // 10)
        for name in ("runtime-version", "runtime"):
            found |= {f"cuda.{name}.major": major, f"cuda.{name}.minor": minor}
        found["cuda.runtime-version.full"] = f"{major}.{minor}"
    if facts.started is not None:
        found["gfd.timestamp"] = str(facts.started)
    return found


def family(capability: str) -> str:
    """The architecture's name of a compute capability (`8.9`)."""
    major, _, minor = capability.partition(".")
    if major == "7":
        return "turing" if minor == "5" else "volta"
    if major == "8":
        return "ada-lovelace" if minor == "9" else "ampere"
    return _FAMILIES.get(major, "undefined")


def _gpu(model: Sequence[Device], sharing: Sharing, facts: NodeFacts) -> Labels:
    """The GPUs of one model; one that is shared is the example."""
    offered = [d for d in model if sharing.counts.get(d.id)]
    one = max(offered or model, key=lambda d: sharing.counts.get(d.id, 0))
    found = {f"gpu.{name}": value for name, value in sharing.labels(one).items()}
    found["gpu.count"] = str(len(model))
    if name := clean(one.product):
        found["gpu.product"] = sharing.product(one, name)
    if one.memory_bytes is not None:
        found["gpu.memory"] = str(one.memory_bytes // _MIB)
    if capability := one.attributes.get("compute_capability"):
        major, _, minor = capability.partition(".")
        found |= {"gpu.compute.major": major, "gpu.compute.minor": minor}
        found["gpu.family"] = family(capability)
    modes = {0x0302: "compute", 0x0300: "graphics"}
    class_id = facts.classes.get(one.pci_address or "")
    found["gpu.mode"] = modes.get((class_id or 0) >> 8, "unknown")
    return found


def _vgpu(whole: Sequence[Device], facts: NodeFacts) -> Labels:
    present = any("vgpu_profile" in d.attributes for d in whole)
    found = {"vgpu.present": _flag(present)}
    if present and facts.host_driver:
        version, branch = map(clean, facts.host_driver)
        found |= {"vgpu.host-driver-version": version, "vgpu.host-driver-branch": branch}
    return found


def _mig(devices: Sequence[Device], sharing: Sharing, strategy: str) -> Labels:
    """By the strategy: under the names of whole GPUs, or by profile."""
    if strategy == "none":
        return {}
    parts = [d for d in devices if d.parent is not None and d.profile]
    found = {"mig.strategy": strategy}
    if strategy == "single":
        in_mig = [d for d in devices if d.attributes.get("mig") == "enabled" and not d.parent]
        return found | (_single(parts, sharing, in_mig[0]) if in_mig else {})
    for profile in sorted({str(d.profile) for d in parts}):
        mine = [d for d in parts if d.profile == profile]
        for name, value in _profile(mine, sharing).items():
            found[f"{resource_suffix(profile)}.{name}"] = value
    return found


def _single(parts: Sequence[Device], sharing: Sharing, whole: Device) -> Labels:
    named = partial("gpu.{}".format)
    offered = [d for d in parts if d.resource == WHOLE]
    if not offered:
        none = {"count": "0", "replicas": "0", "memory": "0", "sharing-strategy": ""}
        none["product"] = _named(whole, "MIG-INVALID")
        return {named(name): value for name, value in none.items()}
    return {named(name): value for name, value in _profile(offered, sharing).items()}


def _named(device: Device, end: str) -> str:
    """The product with an end, which is never cut."""
    name = clean(device.product)[: 62 - len(end)]
    return f"{name}-{end}" if name else end


def _profile(parts: Sequence[Device], sharing: Sharing) -> Labels:
    """What all MIG devices of one profile are."""
    one = parts[0]
    product = _named(one, f"MIG-{one.profile}".replace("+", "."))
    found = {"count": str(len(parts)), "product": sharing.product(one, product)}
    found |= sharing.labels(one)
    if one.memory_bytes is not None:
        found["memory"] = str(one.memory_bytes // _MIB)
    attributes = one.attributes
    names = {"multiprocessors": "multiprocessors"}
    names |= {"slices.gi": "gpu_slices", "slices.ci": "compute_slices"}
    names |= {f"engines.{engine}": f"{engine}_engines" for engine in _ENGINES}
    return found | {n: attributes[key] for n, key in names.items() if key in attributes}
