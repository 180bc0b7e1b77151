"""A piece of advice, the change of a history that it stands for, and what that saves; pure."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, Literal

from msgspec import Struct, field

from deviceplugin.cost.history import Device, Grant
from deviceplugin.schema import Section

Kind = Literal["right-size", "share", "layout", "idle", "power-cap", "thermal-imbalance", "unknown"]


class Change(Section, frozen=True):
    """What a history would have been like: `share` gives a workload that part of a GPU, `release`
    takes it from a workload that was idle for `after_hours`, `energy` multiplies what GPUs of a
    node and model took while they were active under a limit above `limit_watts`, `layout` cuts the
    GPUs of a model into partitions.

    `workload` is the owner of pods, or a pod without one.
    """

    kind: Literal["share", "release", "energy", "layout"]
    namespace: str = "*"
    workload: str = "*"
    container: str = "*"
    node: str = "*"
    model: str = "*"
    profile: str = ""
    share: float = 1.0
    after_hours: float = 1.0
    factor: float = 1.0
    limit_watts: float = 0.0
    layout: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Parts are parts."""
        if not 0 < self.share <= 1:
            raise ValueError("share: a number above 0, at most 1")
        if not 0 < self.factor <= 1:
            raise ValueError("factor: a number above 0, at most 1")

    def is_of(self, device: Device, grant: Grant) -> bool:
        """Whether it changes what that container has of the device."""
        return (
            self.is_on(device)
            and grant.namespace == self.namespace
            and workload_of(grant) == self.workload
            and grant.container == self.container
        )

    def is_on(self, device: Device) -> bool:
        """Whether it changes anything of the device."""
        alike = (device.model, device.profile) == (self.model, self.profile)
        return alike and fnmatchcase(device.node, self.node)


class Saving(Struct, frozen=True, kw_only=True):
    """What a replay of the history with the change costs less. `freed` is what is no longer
    allocated: others can have it, and it is paid until GPUs are given back. `paid_less` is what
    the whole bill is lower by."""

    gpu_hours: float
    freed: float
    paid_less: float
    kwh: float | None = None

    @classmethod
    def of(cls, gpu_hours: float, freed: float, paid_less: float, kwh: float | None) -> "Saving":
        """Rounded to what is shown."""
        return cls(
            gpu_hours=shown(gpu_hours, 3),
            freed=shown(freed, 2),
            paid_less=shown(paid_less, 2),
            kwh=None if kwh is None else shown(kwh, 3),
        )


class Advice(Struct, frozen=True, kw_only=True):
    """What could be done about a subject, and why. `saving` is None where nothing is claimed,
    `patch` what to change (of a `pod`, or the `configuration`), to be reviewed by a person."""

    kind: Kind
    subject: str
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None
    saving: Saving | None = None
    patch_of: Literal["pod", "configuration", ""] = ""
    patch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same advice about the same subject, whatever it saves."""
        return sha256(f"{self.kind}\0{self.subject}".encode()).hexdigest()[:10]


def workload_of(grant: Grant) -> str:
    """The owner of a pod, or the pod itself."""
    return grant.owner or grant.pod


def shown(value: float, digits: int) -> float:
    """Rounded twice, so that half a cent is rounded alike in whichever order it was summed; and
    never -0.0."""
    return round(round(value, 7), digits) + 0.0
