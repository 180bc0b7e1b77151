"""Which free part of a GPU the workload could have used; pure.

The measure is that of FGD (Weng et al., USENIX ATC 2023), for one device and by the requests that
the history itself has: a free part counts as stranded as far as requests are larger than it.
"""

from bisect import bisect_right
from collections.abc import Mapping

from deviceplugin.cost.history import History

EPSILON = 1e-9
Kind = tuple[str, str]  # model and profile


class Workload:
    """The shares that containers asked of each kind of device."""

    def __init__(self, history: History) -> None:
        asked: dict[Kind, dict[tuple[str, str, str], float]] = {}
        for cell in history.cells:
            device = history.devices[cell.device]
            mine = asked.setdefault((device.model, device.profile), {})
            for grant in cell.grants:
                key = (grant.namespace, grant.pod, grant.container)
                mine[key] = max(grant.share, mine.get(key, 0.0))
        self._asked: Mapping[Kind, list[float]] = {
            kind: sorted(mine.values()) for kind, mine in asked.items()
        }

    def stranded(self, kind: Kind, free: float) -> float:
        """The part of `free` that is stranded: by how many requests do not fit into it."""
        shares = self._asked.get(kind, [])
        if not shares or free >= 1 - EPSILON or free <= EPSILON:
            return 0.0
        larger = len(shares) - bisect_right(shares, free + EPSILON)
        return free * larger / len(shares)
