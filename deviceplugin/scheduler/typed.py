"""Which GPU models a pod allows, by its node selector and its node affinity; pure."""

from typing import Protocol

from msgspec import Struct, field

MAX_MODELS = 16  # each node's reason names them


class _Expression(Struct):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class _Term(Struct, rename="camel"):
    match_expressions: list[_Expression] | None = None

    def models(self, label: str) -> frozenset[str] | None:
        """The values of the label that it allows; None if it allows any."""
        for one in self.match_expressions or []:
            if one.key == label and one.operator == "In":
                return frozenset(one.values or [])
        return None


class _Required(Struct, rename="camel"):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(Struct):
    required: _Required | None = field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Struct, rename="camel"):
    """A pod's affinity, as far as it is about nodes and required."""

    node_affinity: _NodeAffinity | None = None


class Selecting(Protocol):
    """A pod's spec."""

    node_selector: dict[str, str] | None
    affinity: Affinity | None


def models_of(spec: Selecting, label: str) -> frozenset[str]:
    """The GPU models that selector and node affinity allow; empty for any, and for too many to be
    named: kube-scheduler looks at them itself."""
    if model := (spec.node_selector or {}).get(label):
        return frozenset([model])
    affinity = spec.affinity
    required = affinity.node_affinity.required if affinity and affinity.node_affinity else None
    terms = (required.node_selector_terms if required else None) or []
    each = [term.models(label) for term in terms]  # one of them is enough
    found = frozenset(model for models in each for model in models or ())
    return frozenset() if None in each or len(found) > MAX_MODELS else found
