"""The configuration sections `isolation`, `rules` and `sharing`; decoded by msgspec."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from deviceplugin.names import name_problem
from deviceplugin.schema import Isolation, Section, parse_bytes

MIB = 1 << 20
MPS_MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
MPS_THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
DEVICE_MEMORY = "CUDA_DEVICE_MEMORY_LIMIT"
DEVICE_SM = "CUDA_DEVICE_SM_LIMIT"

Variable = Literal[
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_SM_LIMIT",
]
Texts = str | tuple[str, ...]
Numbers = int | str | tuple[int | str, ...]


class MemoryRange(Section, frozen=True):
    """Device memory from `min` up to and including `max`."""

    min: str | None = None
    max: str | None = None

    def __post_init__(self) -> None:
        """Check both sizes."""
        for size in (self.min, self.max):
            if size is not None:
                parse_bytes(size)


class Match(Section, frozen=True):
    """Which devices a rule is about: each key that is there must fit, one value of a list is
    enough. Texts are globs (`*`, `?`), `index` is `0` or, for a partition, `"0:1"`."""

    vendor: Texts | None = None
    product: Texts | None = None
    uuid: Texts | None = None
    pci_address: Texts | None = None
    index: Numbers | None = None
    memory: MemoryRange | None = None
    profile: Texts | None = None
    driver: Texts | None = None
    resource: Texts | None = None


class MemorySlices(Section, frozen=True):
    """Memory by the unit; `reserve` of each device is not handed out."""

    unit: str = "1GiB"
    reserve: str | None = None

    def __post_init__(self) -> None:
        """Refuse a unit that is no whole number of MiB, the unit in which limits are told."""
        if parse_bytes(self.unit) % MIB:
            raise ValueError(f"unit {self.unit!r} is not a whole number of MiB")
        if self.reserve is not None:
            parse_bytes(self.reserve)


class Offer(Section, frozen=True):
    """One form in which a device is offered: exactly one of `whole`, `replicas`, `memory`."""

    whole: bool = False
    replicas: int | None = None
    memory: MemorySlices | None = None
    name: str | None = None
    max_per_container: int | Literal["unlimited"] | None = None
    distinct: bool = False
    sharing: Literal["time-slicing", "mps"] = "time-slicing"
    variables: tuple[Variable, ...] = ()
    policy: str | None = None

    def __post_init__(self) -> None:
        """Refuse what msgspec cannot express, where it can still tell the key's path."""
        forms = self.whole + (self.replicas is not None) + (self.memory is not None)
        if forms != 1:
            raise ValueError("an offer has exactly one of whole, replicas and memory")
        if self.replicas is not None and self.replicas < 2:
            raise ValueError(f"replicas {self.replicas} is less than 2")
        if self.name is not None and (problem := name_problem(self.name)):
            raise ValueError(f"name {self.name!r}: {problem}")
        if isinstance(self.max_per_container, int) and self.max_per_container < 1:
            raise ValueError(f"max_per_container {self.max_per_container} is less than 1")
        if self.whole and (self.mps or self.variables):
            raise ValueError("a device that is offered whole has neither sharing nor variables")

    @property
    def mps(self) -> bool:
        """Whether containers share through NVIDIA's Multi-Process Service."""
        return self.sharing == "mps"

    @property
    def limit(self) -> int | None:
        """How many ids a container may have, None for any number.

        Two replicas of one GPU are no second GPU, so one is the default; with `distinct` each
        is another GPU, and any number makes sense.
        """
        if self.max_per_container == "unlimited":
            return None
        if self.max_per_container is None:
            return 1 if self.replicas is not None and not self.distinct else None
        return self.max_per_container


class Rule(Section, frozen=True):
    """What becomes of the devices that fit `match`, or of the first `count` of them."""

    offers: tuple[Literal["whole", "exclude"] | Offer, ...]
    match: Match = Match()
    count: int | None = None

    def __post_init__(self) -> None:
        """Refuse rules that say nothing or contradict themselves."""
        if not self.offers:
            raise ValueError("offers is empty; to hide devices say [exclude]")
        if "exclude" in self.offers and len(self.offers) > 1:
            raise ValueError("exclude stands alone")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count {self.count} is less than 1")

    @property
    def forms(self) -> tuple[Offer, ...]:
        """The offers as values; none for `exclude`."""
        return tuple(
            offer if isinstance(offer, Offer) else Offer(whole=True)
            for offer in self.offers
            if offer != "exclude"
        )


class MpsSettings(Section, frozen=True):
    """Where NVIDIA's MPS is: `root` for pipes and logs (a path of the host), `control` the
    program as we run it, looked for where drivers have it if it is not said."""

    root: str = "/run/nvidia/mps"
    control: str | None = None

    def __post_init__(self) -> None:
        """Both are absolute paths."""
        for key in ("root", "control"):
            path = getattr(self, key)
            if path and (not path.startswith("/") or ".." in path.split("/")):
                raise ValueError(f"{key} {path!r} is not an absolute path")


class SharingSection(Section, frozen=True):
    """What sharing needs on the node."""

    mps: MpsSettings = msgspec.field(default_factory=MpsSettings)


# A list and a word are no structs, but are decoded, checked and shown by the same code.
SECTIONS: Mapping[str, Any] = {
    "isolation": Isolation | None,
    "rules": tuple[Rule, ...] | None,
    "sharing": SharingSection,
}
