"""What the API server of a cluster has, by its minor release and its feature gates; pure."""

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

Gate = Literal["DRADeviceTaints", "DRAPartitionableDevices", "DRAConsumableCapacity"]
GATES: tuple[Gate, ...] = get_args(Gate)
ON_SINCE = 36  # in releases before, each is off unless somebody has turned it on
SEPARATE_SINCE = 35  # counters have slices of their own
# The fields that are dropped without a gate, of a spec, a device or a capacity.
GATE_OF: Mapping[str, Gate] = {
    "taints": "DRADeviceTaints",
    "sharedCounters": "DRAPartitionableDevices",
    "consumesCounters": "DRAPartitionableDevices",
    "allowMultipleAllocations": "DRAConsumableCapacity",
    "requestPolicy": "DRAConsumableCapacity",
}


class Cluster(Struct, frozen=True, kw_only=True):
    """The minor release of the API server, the gates that are on although its release has them
    off, and those that it has shown not to have: it dropped a field."""

    minor: int
    on: frozenset[str] = frozenset()
    lacking: frozenset[str] = frozenset()

    def has(self, gate: Gate) -> bool:
        """Whether fields of the gate are kept, as far as is known."""
        return (self.minor >= ON_SINCE or gate in self.on) and gate not in self.lacking

    @property
    def separate_counters(self) -> bool:
        """Whether sets of counters stand in slices without devices."""
        return self.minor >= SEPARATE_SINCE
