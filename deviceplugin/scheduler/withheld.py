"""Nodes that a pod may not have whatever room they have: other namespaces, its group, or a pod that
has waited for too long come first. A simulation asks it as the extender does."""

from collections.abc import Mapping, Sequence

from deviceplugin.scheduler.demand import Demand
from deviceplugin.scheduler.fairness import Fairness
from deviceplugin.scheduler.groups import Groups, group_of
from deviceplugin.scheduler.keeping import Keeping
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.state import Cluster


class Withheld:
    """Shares of namespaces, groups and kept nodes, in this order."""

    def __init__(
        self, cluster: Cluster, fairness: Fairness | None = None, keeping: Keeping | None = None
    ) -> None:
        self._fairness, self._keeping = fairness, keeping
        self._groups = Groups(cluster)

    @property
    def may_keep(self) -> bool:
        """Whether a node would be kept for the next pod that has waited for long enough."""
        return self._keeping is not None and self._keeping.is_free

    def of(self, pod: Pod, demand: Demand, names: Sequence[str]) -> Mapping[str, str]:
        """The nodes with the reason. Of a pod of a group all but one are, or all of them: the one
        is reserved for it. Raises AskingError."""
        group = group_of(pod)
        if self._fairness and (reason := self._fairness.refusal(pod, demand)):
            return dict.fromkeys(names, reason)
        if group is not None:
            node, reason = self._groups.place(pod, group, names)
            reason = reason or f"its group {group.name} has a place for it on {node}"
            return {name: reason for name in names if name != node}
        if self._keeping is None:
            return {}
        self._keeping.look()
        kept = self._keeping.node
        reason = self._keeping.refusal(kept, pod, demand)
        return {kept: reason} if reason and kept in names else {}

    def found_no_room(self, pod: Pod, demand: Demand) -> None:
        """No node is left for the pod: one may be kept for it."""
        if self._keeping is not None:
            self._keeping.found_no_room(pod, demand)
