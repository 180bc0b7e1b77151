"""What the checks look at and what they say; pure values."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.bypass.judge import Bypass
from deviceplugin.host.readings import Readings
from deviceplugin.model import Device, DeviceID, Fault, VendorStatus
from deviceplugin.vendor import Measured

_NO_READINGS = Readings()


class Verdict(StrEnum):
    """`skipped` is what could not be judged: it is neither good nor bad."""

    PASS = "pass"  # noqa: S105  # no password
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Judged(Struct, frozen=True):
    """What a check says of one subject; an `action` here is better than the check's own."""

    verdict: Verdict
    value: str
    action: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """One check of one subject: a device's id, a vendor or a file; the node's own is `node`."""

    check: str
    subject: str
    verdict: Verdict
    value: str
    expected: str
    source: str
    action: str


class NodeFile(Struct, frozen=True, kw_only=True):
    """A device node: its permission bits, None where it does not exist or cannot be seen."""

    path: str
    mode: int | None


class LinkSpeed(Struct, frozen=True, kw_only=True):
    """In GT/s, as sysfs writes it."""

    current: float
    possible: float


class GpuFacts(Struct, frozen=True, kw_only=True):
    """A whole GPU. `before` and `now` were measured a moment apart; both are empty where its
    vendor measures nothing. `answered` is None where it was not asked, because another hangs.
    `parts` are its partitions, `measures` says whether its vendor can be asked at all."""

    device: Device
    parts: tuple[Device, ...] = ()
    faults: tuple[Fault, ...] = ()
    measures: bool = True
    answered: bool | None = None
    latency_s: float | None = None
    before: tuple[Measured, ...] = ()
    now: tuple[Measured, ...] = ()
    readings: Readings = _NO_READINGS
    correctable_errors: int | None = None
    speed: LinkSpeed | None = None
    nodes: tuple[NodeFile, ...] = ()
    aperture_bytes: int | None = None

    def values(self, metric: str, *, earlier: bool = False) -> Mapping[tuple[str, ...], float]:
        """The GPU's own values of a metric by the values of its labels."""
        measured = self.before if earlier else self.now
        return {
            tuple(text for _, text in one.labels): one.value
            for one in measured
            if one.metric == metric and one.device == self.device.id
        }


class PciGpu(Struct, frozen=True, kw_only=True):
    """A function on the bus that is a GPU by its class. `functions` are virtual functions that are
    asked for and that exist, None where it has none."""

    address: str
    vendor: str
    driver: str | None
    virtual: bool = False
    functions: tuple[int, int] | None = None


class GpuProcess(Struct, frozen=True, kw_only=True):
    """A process on a GPU and the pod it runs in, None outside of pods or where it is not `seen` in
    /proc. `holds` is None where it is not known who holds the GPU, or what the pod is called."""

    pid: int
    device: DeviceID
    pod: str | None
    holds: bool | None
    seen: bool = True


class CdiFile(Struct, frozen=True, kw_only=True):
    """A CDI file: what it names and is not there; `problem` where it cannot be read."""

    path: str
    named: int = 0
    missing: tuple[str, ...] = ()
    problem: str = ""


class RuntimeFacts(Struct, frozen=True, kw_only=True):
    """Whether the container runtime honours CDI names; `needed` where the settings use them."""

    honoured: bool
    reason: str
    remedy: str
    needed: bool


class NodeFacts(Struct, frozen=True, kw_only=True):
    """What is of no single GPU; None is unknown. `registered` and `listed` are ids by resource: as
    the kubelet has them, and as the daemon lists them."""

    vendors: tuple[VendorStatus, ...] = ()
    module_versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    bus: tuple[PciGpu, ...] = ()
    cdi_files: tuple[CdiFile, ...] = ()
    kubelet_listens: bool | None = None
    registered: Mapping[str, int] | None = None
    listed: Mapping[str, int] | None = None
    kubelet_problem: str = ""
    daemon_problem: str = ""
    processes: tuple[GpuProcess, ...] | None = None
    runtime: RuntimeFacts | None = None
    clock_synchronised: bool | None = None
    dumps: tuple[str, ...] = ()
    persistenced: bool | None = None
    unallocated: tuple[Bypass, ...] | None = None
    unallocated_problem: str = ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything that is looked at, read once; `window_s` lies between the two measurements."""

    node_name: str
    taken_at: float
    window_s: float
    gpus: tuple[GpuFacts, ...] = ()
    node: NodeFacts = NodeFacts()


class GpuCheck(Struct, frozen=True, kw_only=True):
    """A check of each GPU, and where what it looks at comes from."""

    name: str
    expected: str
    source: str
    action: str
    judge: Callable[[GpuFacts, Snapshot], Judged]


class NodeCheck(Struct, frozen=True, kw_only=True):
    """A check of the node, with one answer for each subject."""

    name: str
    expected: str
    source: str
    action: str
    judge: Callable[[Snapshot], Iterator[tuple[str, Judged]]]


def passed(value: str) -> Judged:
    """As expected."""
    return Judged(Verdict.PASS, value)


def warned(value: str, action: str = "") -> Judged:
    """Not as expected, and pods can still run."""
    return Judged(Verdict.WARN, value, action)


def failed(value: str, action: str = "") -> Judged:
    """Not as expected, and pods fail or suffer."""
    return Judged(Verdict.FAIL, value, action)


def skipped(why: str) -> Judged:
    """Not judged, and why."""
    return Judged(Verdict.SKIPPED, why)
