"""What pods may ask in annotations, and what the cluster's configuration says to it; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

from deviceplugin.kubernetes.facts import ANNOTATION, NodeFacts, read
from deviceplugin.model import Isolation
from deviceplugin.scheduler.about import NOTHING, About, Wants
from deviceplugin.scheduler.parts import Weights
from deviceplugin.schema import parse_bytes
from deviceplugin.vendor.labels import LABEL_PREFIX

CLASS, MEMORY, ISOLATION, LINKS, NIC, DOMAIN, BESIDE, NOT_BESIDE, GROUP, GROUP_SIZE = (
    f"{LABEL_PREFIX}/{name}"
    for name in (
        "workload-class",
        "gpu-memory",
        "isolation",
        "links",
        "near-nic",
        "link-domain",
        "beside",
        "not-beside",
        "pod-group",
        "pod-group-size",
    )
)
REALTIME = "realtime"
MAX_NAMES = 16
LABEL = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")  # a value of a label
_MEMORY_LABEL = "nvidia.com/gpu.memory"  # MiB, as GFD and our labels have it
_MAJOR, _MINOR = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"


class AskingError(ValueError):
    """An annotation of a pod says nothing that can be done: no node fits, and each says why."""


class Asking(Struct, frozen=True, kw_only=True):
    """The configuration: `classes` by name, `policies` of nodes by name, `realtime` and `near_nic`
    whether these sections are there, `weights` of the parts."""

    classes: Mapping[str, Wants] = field(default_factory=lambda: MappingProxyType({}))
    policies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    realtime: bool = False
    near_nic: bool = False
    weights: Weights = Weights()

    def wants_of(self, annotations: Mapping[str, str], priority: int) -> Wants:
        """What a pod wants; an annotation wins over its class. Raises AskingError for
        one that says nothing that can be done."""
        name = annotations.get(CLASS, "")
        if name and name not in self.classes and not (name == REALTIME and self.realtime):
            known = ", ".join(sorted(self.classes)) or "none is configured"
            raise AskingError(f"{CLASS}: {name[:60]!r} is no class of workloads: {known}")
        base = self.classes.get(name, NOTHING)
        wants = Wants(
            memory_mib=_memory(annotations.get(MEMORY)) or base.memory_mib,
            capability=base.capability,
            isolation=_one_of(ISOLATION, annotations, tuple(Isolation)),
            linked=_one_of(LINKS, annotations, ("required",)) == "required",
            near_nic=_one_of(NIC, annotations, ("true", "false"), str(self.near_nic).lower())
            == "true",
            idle=name == REALTIME,
            favoured=priority > 0,
            domain_required=_one_of(DOMAIN, annotations, ("required",)) == "required",
            required=_names(BESIDE, annotations),
            forbidden=_names(NOT_BESIDE, annotations),
        )
        return wants if wants != NOTHING else NOTHING


def _memory(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return parse_bytes(text) >> 20
    except ValueError as error:
        raise AskingError(f"{MEMORY}: {text[:60]!r}: a size such as 32GiB") from error


def _one_of(
    name: str, annotations: Mapping[str, str], known: tuple[str, ...], default: str = ""
) -> str:
    given = annotations.get(name, default)
    if given and given not in known:
        raise AskingError(f"{name}: {given[:60]!r}: one of {', '.join(known)}")
    return given


def _names(name: str, annotations: Mapping[str, str]) -> frozenset[str]:
    """Bounded, as every node's reason has them."""
    text = annotations.get(name, "")
    found = frozenset(app.strip() for app in text.split(",", MAX_NAMES) if app.strip())
    if len(found) > MAX_NAMES or not all(LABEL.fullmatch(app) for app in found):
        raise AskingError(
            f"{name}: {text[:60]!r}: at most {MAX_NAMES} names of apps, comma-separated, each as a"
            " label has it"
        )
    return found


def facts_of(annotations: Mapping[str, str]) -> NodeFacts | None:
    """What the node's daemon tells; None where it tells nothing that can be read."""
    text = annotations.get(ANNOTATION)
    return read(text) if text else None


def about_of(
    name: str, labels: Mapping[str, str], facts: NodeFacts | None, asking: Asking
) -> About:
    """What is known of a node beyond counts."""
    return About(
        gpus=facts.gpus if facts else (),
        links={(a, b): cost for a, b, cost in facts.links} if facts else MappingProxyType({}),
        memory_mib=_number(labels.get(_MEMORY_LABEL)),
        capability=_capability(labels),
        domain=labels.get(f"{LABEL_PREFIX}/link-domain", ""),
        policy=asking.policies.get(name, ""),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _capability(labels: Mapping[str, str]) -> int | None:
    major, minor = _number(labels.get(_MAJOR)), _number(labels.get(_MINOR))
    return None if major is None else 10 * major + (minor or 0)


def asking_of(sections: Mapping[str, Any], weights: Weights) -> Asking:
    """The configuration of these decoded sections: `workloads`, `gpu_nodes`, `network`,
    `realtime`."""
    workloads, realtime = sections.get("workloads"), sections.get("realtime")
    names = ("training", "inference", "edge_inference")
    given = {name: getattr(workloads, name, None) for name in names}
    nodes = sections.get("gpu_nodes") or ()
    return Asking(
        classes={name: _class(one) for name, one in given.items() if one is not None},
        policies={node.name: node.scheduling_policy for node in nodes if node.scheduling_policy},
        realtime=bool(realtime and realtime.enabled),
        near_nic=sections.get("network") is not None,
        weights=weights,
    )


def _class(workload: Any) -> Wants:  # Any: a section of documents, which this room may not import
    capability = (workload.compute_capability or "0").rstrip("+")
    least = round(10 * float(capability))
    if workload.tensor_cores:
        least = max(least, 70)  # Volta is the first with tensor cores
    least = max(least, _LEAST.get(workload.precision, 0))
    memory = parse_bytes(workload.gpu_memory) >> 20 if workload.gpu_memory else 0
    return Wants(memory_mib=memory, capability=least)


# The first compute capability with tensor cores for it, NVIDIA's CUDA programming guide.
_LEAST = {"BF16": 80, "TF32": 80, "FP8": 89, "FP4": 100}
