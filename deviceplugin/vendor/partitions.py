"""The contract of partitioning: what a GPU can be cut into, and the steps that cut it.

A vendor whose GPUs can be partitioned has a module `partitioning` beside its own, with
`partitioner(host, sections)`. It is imported by `deviceplugin provision` alone, never by the daemon
that serves.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from msgspec import Struct, field


class Profile(Struct, frozen=True, kw_only=True):
    """A MIG profile: what an instance of it takes, and the places where one can be.

    `engines` are by NVML's words (`copy`, `decoder`, `encoder`, `jpeg`, `ofa`); unknown is None,
    or not there.
    """

    name: str
    id: int
    size: int
    starts: tuple[int, ...]
    instances: int
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    engines: Mapping[str, int] = field(default_factory=dict)


class Instance(Struct, frozen=True, kw_only=True, order=True):
    """A MIG instance that exists, by what stays the same of it when it is made again.

    `whole` is false for what a process that ended between two calls has left: a GPU instance
    without its compute instance. `users` are the processes in it, `devices` the ids of what is
    offered of it.
    """

    profile: str
    start: int
    size: int
    whole: bool = True
    users: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class Mig(Struct, frozen=True, kw_only=True):
    """MIG of one GPU. `live` says that the mode changes without a reset; `fixed` why nothing can
    be changed here, empty where it can."""

    enabled: bool
    pending: bool
    live: bool
    fixed: str = ""
    profiles: tuple[Profile, ...] = ()
    instances: tuple[Instance, ...] = ()


class Modes(Struct, frozen=True, kw_only=True):
    """Compute and memory mode of one GPU; `available` is what the driver takes now, `dies` how
    many compute dies there are to divide, None where the driver does not say.

    `memories` are the memory modes that the firmware offers, empty where the driver does not say;
    `fixed` is why none of them can be had here, and `beside` who has open what all GPUs of the
    driver share: the driver is loaded again for all.
    """

    compute: str
    available: tuple[str, ...]
    memory: str | None = None
    dies: int | None = None
    memories: tuple[str, ...] = ()
    fixed: str = ""
    beside: tuple[str, ...] = ()


class Functions(Struct, frozen=True, kw_only=True):
    """Virtual functions of one GPU. `quotas` says that their memory can be set; `held` are the
    functions that somebody has; `fixed` is why number, memory and time cannot be changed here.

    `drivers` are those of the functions that are enabled, UNBOUND for none, `native` is the one by
    which containers use them, `loaded` are the drivers of the PCI bus; `unassignable` is why they
    cannot be given to machines, empty where they can.

    `quanta_ms` and `timeouts_us` are how long the GPU is each possible function's in turn, and how
    long it may take to give it up, 0 without limit; None where the driver cannot set them.
    """

    count: int
    most: int
    driver: str
    memory_bytes: int | None = None
    quotas: bool = False
    quota_bytes: int | None = None
    quanta_ms: tuple[int, ...] | None = None
    timeouts_us: tuple[int, ...] | None = None
    autoprobe: bool = True
    native: str = ""
    drivers: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    unassignable: str = ""
    held: tuple[str, ...] = ()
    fixed: str = ""


class PartitionedGpu(Struct, frozen=True, kw_only=True):
    """One GPU as it was read. Of `mig`, `modes` and `functions` those are None that it has not.

    `device` is the PCI device and vendor as foreign files write it (`0x233510DE`). `users` are
    those that hold the GPU as a whole, or an instance that nobody can name. `reloaded` says that
    another memory mode of any GPU loads its driver again.
    """

    id: str
    vendor: str
    product: str
    index: int
    address: str
    device: str
    mig: Mig | None = None
    modes: Modes | None = None
    functions: Functions | None = None
    users: tuple[str, ...] = ()
    reloaded: bool = False


class Setting(Struct, frozen=True, kw_only=True):
    """Both modes of one GPU; empty is what the driver makes of it."""

    gpu: str
    compute: str = ""
    memory: str = ""


class Verb(StrEnum):
    """What one step does."""

    MIG_MODE = "mig_mode"
    CREATE = "create"
    DESTROY = "destroy"
    COMPUTE = "compute_mode"
    MEMORY = "memory_mode"
    AUTOPROBE = "autoprobe"
    QUOTA = "memory_quota"
    QUANTUM = "execution_quantum"
    PREEMPTION = "preemption_timeout"
    FUNCTIONS = "functions"
    DRIVER = "functions_driver"


VFIO = "vfio-pci"  # gives a function to a machine
UNBOUND = "-"  # no driver
TURNS = (Verb.QUANTUM, Verb.PREEMPTION)  # change while functions are in use, and take nothing away


class Step(Struct, frozen=True, kw_only=True):
    """One change of one GPU. `name` is a MIG profile or a mode, `number` a place, a count or a
    size; the two `was` are what there was before, for the way back. For `TURNS`, `name` has the
    value of every function, with spaces between, and `number` that of the first; for `DRIVER` the
    driver of every function that there is.

    `MEMORY` is one change of all GPUs of a driver, whichever `gpu` it is for: `settings` are their
    modes afterwards, and `were` those of before.
    """

    gpu: str
    verb: Verb
    name: str = ""
    number: int = 0
    was_name: str = ""
    was_number: int = 0
    settings: tuple[Setting, ...] = ()
    were: tuple[Setting, ...] = ()

    @property
    def gpus(self) -> frozenset[str]:
        """All that it changes."""
        return frozenset({self.gpu, *(one.gpu for one in self.settings)})

    def back(self) -> "Step":
        """The step that takes this one back."""
        turned = {Verb.CREATE: Verb.DESTROY, Verb.DESTROY: Verb.CREATE}
        if self.verb in turned:
            return Step(gpu=self.gpu, verb=turned[self.verb], name=self.name, number=self.number)
        return Step(
            gpu=self.gpu,
            verb=self.verb,
            name=self.was_name,
            number=self.was_number,
            was_name=self.name,
            was_number=self.number,
            settings=self.were,
            were=self.settings,
        )


_ROUNDING = 64 << 20  # a driver rounds a quota up, to its pages on every tile


def is_quota(wanted: int, read: int) -> bool:
    """Whether a quota that was read is the one that was asked for; 0 is none."""
    return wanted <= read < wanted + _ROUNDING if wanted else read == 0


class Partitioner(Protocol):
    """A vendor's hands: reads its GPUs and does one step. Blocking."""

    def read(self) -> Sequence[PartitionedGpu]:
        """All GPUs as they are now; raises VendorError."""

    def apply(self, step: Step) -> None:
        """Do the step and see that it is done; done already, do nothing. Raises VendorError.

        What a step that was cut off has left in its place is removed first.
        """

    def is_done(self, step: Step) -> bool:
        """Whether the hardware is as after the step, whole; raises VendorError."""

    def close(self) -> None:
        """Let the driver library go."""


@runtime_checkable
class Reloading(Protocol):
    """Hands some of whose steps load a driver of the node again."""

    def allow_reload(self) -> None:
        """From now on they may."""
