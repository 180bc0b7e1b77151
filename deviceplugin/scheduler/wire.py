"""The messages between kube-scheduler and an extender (k8s.io/kube-scheduler/extender/v1), whose
fields are in Pascal case; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from deviceplugin.scheduler.objects import Pod


class NodeList(Struct):
    """Whole nodes, which are given back as they came."""

    items: list[Raw] | None = None


class Asked(Struct, rename="pascal"):
    """What filter and prioritize are asked: names if nodeCacheCapable, else whole nodes."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: list[str] | None = None

    def by_name(self) -> Mapping[str, Raw | None]:
        """The nodes by name, with what has to be given back."""
        if self.node_names is not None:
            return dict.fromkeys(self.node_names)
        items = (self.nodes.items if self.nodes else None) or []
        return {_named.decode(item).metadata.name: item for item in items}

    def answer(
        self, fitting: Sequence[str], failed: Mapping[str, str], hopeless: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """The answer of filter, in the form of the question; on the nodes that are `hopeless` no
        pod has to go for this one: it would not help."""
        given = self.by_name()
        names = self.node_names is not None
        return {
            "Nodes": None if names else {"items": [given[name] for name in fitting]},
            "NodeNames": list(fitting) if names else None,
            "FailedNodes": failed,
            "FailedAndUnresolvableNodes": hopeless,
            "Error": "",
        }


class _Named(Struct):
    metadata: "_Name"


class _Name(Struct):
    name: str


class Uid(Struct, rename="upper"):
    """A pod that would have to go."""

    uid: str = ""


class MetaVictims(Struct, rename={"pods": "Pods", "violations": "NumPDBViolations"}):
    """Pods by uid that would have to go."""

    pods: list[Uid] | None = None
    violations: int = 0


class Victims(Struct, rename={"pods": "Pods", "violations": "NumPDBViolations"}):
    """Whole pods that would have to go."""

    pods: list[Pod] | None = None
    violations: int = 0

    def meta(self) -> MetaVictims:
        """The same by uid, as the answer has to be."""
        return MetaVictims([Uid(pod.metadata.uid) for pod in self.pods or []], self.violations)


class Preempting(Struct, rename="pascal"):
    """On which nodes which pods would have to go for this one."""

    pod: Pod
    node_name_to_victims: dict[str, Victims] | None = None
    node_name_to_meta_victims: dict[str, MetaVictims] | None = None

    def victims(self) -> Mapping[str, MetaVictims]:
        """By node, whichever way it was asked."""
        if self.node_name_to_meta_victims:
            return self.node_name_to_meta_victims
        return {name: one.meta() for name, one in (self.node_name_to_victims or {}).items()}


class Score(Struct, rename="pascal"):
    """A node's score; more is better."""

    host: str
    score: int


_named = msgspec.json.Decoder(_Named)
asked_decoder = msgspec.json.Decoder(Asked)
preempting_decoder = msgspec.json.Decoder(Preempting)
