"""The configuration section `labels`; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from deviceplugin.labels.values import key_problem, value_problem
from deviceplugin.schema import Places, Section

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Taint(Section, frozen=True):
    """A taint of nodes that have a GPU."""

    key: str
    effect: Effect
    value: str = ""

    def __post_init__(self) -> None:
        """Refuse what the API server would refuse."""
        if problem := key_problem(self.key):
            raise ValueError(f"key: a label's name such as nvidia.com/gpu; {problem}")
        if self.value and (problem := value_problem(self.value)):
            raise ValueError(f"value: a label's value; {problem}")


class LabelsSection(Section, frozen=True):
    """Which labels the node gets, and by whom.

    `apply: file` writes a feature file for Node Feature Discovery into `directory`; its labels end
    `expires_s` after the daemon does. `apply: api` patches the node, with the rights of
    `deploy/components/labels-api`. `vendor_labels` are those of the vendors' own labellers,
    `common_labels` are `accelerator`, `gpu.memory`, `gpu.count`, `node-type` (the value
    `node_type`) and `gpu-type`.
    """

    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {"directory": Places(folders=("/etc/kubernetes/node-feature-discovery",))}
    )

    apply: Literal["off", "file", "api"] = "off"
    vendor_labels: bool = False
    common_labels: bool = False
    node_type: str = "gpu"
    taints: tuple[Taint, ...] = ()
    directory: str = "/etc/kubernetes/node-feature-discovery/features.d"
    expires_s: Annotated[int, Meta(ge=120, le=7 * 86400)] = 3600

    def __post_init__(self) -> None:
        """Refuse what a feature file cannot do."""
        if problem := value_problem(self.node_type):
            raise ValueError(f"node_type: a label's value; {problem}")
        if self.apply == "file" and self.common_labels:
            raise ValueError(
                "common_labels: apply: api; Node Feature Discovery puts a prefix before names"
                " without one, so gpu.count would become feature.node.kubernetes.io/gpu.count"
            )
        if self.apply == "file" and self.taints:
            raise ValueError(
                "taints: apply: api, or the rule of deploy/components/labels-taint; a feature file"
                " has no taints"
            )


SECTIONS: Mapping[str, Any] = {"labels": LabelsSection}
