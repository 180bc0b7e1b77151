"""The configuration section `kubernetes`; pure."""

from collections.abc import Mapping
from typing import Any, Literal

from deviceplugin.schema import Section


class KubernetesSection(Section, frozen=True):
    """What is written to the API server; each needs rights that only `deploy/components/events`
    gives, and `facts` those of `deploy/components/facts`.

    `events` are Events on the node and on the pods that hold an Unhealthy device, `condition` the
    node condition GpuProblem, `taint` when the node is tainted: never, while any device is
    Unhealthy, or while all are; `facts` is an annotation of the node with its GPUs, for the
    cluster's scheduler.
    """

    events: bool = False
    condition: bool = False
    taint: Literal["never", "any", "all"] = "never"
    facts: bool = False


SECTIONS: Mapping[str, Any] = {"kubernetes": KubernetesSection}
