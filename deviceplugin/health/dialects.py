"""What each vendor's agent says, as faults of our devices; pure but for what a stream adds up.

An agent is another program, so of its words only complaints are kept, each cut to size, and of no
more names than MAX_NAMES.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.protobuf import empty_pb2

from deviceplugin.model import Device, Fault, FaultClass
from deviceplugin.names import one_line
from deviceplugin.pb import exporter_amd_pb2, exporter_intel_pb2, exporter_nvidia_pb2

MAX_NAMES = 256
MAX_COMPLAINTS = 16  # about one GPU
MAX_NAME = 253  # characters; what Kubernetes allows a name to have
_ASK = "see the agent's log and the kernel log for this GPU"
_SEVERITIES = {2: FaultClass.WARN, 3: FaultClass.RESET, 4: FaultClass.HARDWARE}

# A fault's code, its reason and its class.
Complaint = tuple[str, str, FaultClass]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What an agent holds against the GPU of an `identity`: a UUID or a PCI address in small
    letters."""

    identity: str
    complaints: tuple[Complaint, ...]


# What stands against GPUs, by the agent's name for each, what was said last at the end; a stream
# may speak of one GPU at a time.
Said = Mapping[str, Word]
NOTHING_SAID: Said = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How to ask an agent and how to read it; `streams` where it goes on answering by itself.

    `hear` adds an answer to what was said before, `meant` finds the devices of an identity.
    """

    vendor: str
    socket: str
    method: str
    streams: bool
    request: Any
    answer: Any
    hear: Callable[[Said, Any], Said]
    meant: Callable[[str, Sequence[Device]], Sequence[Device]]

    @property
    def source(self) -> str:
        """The source of its faults."""
        return f"{self.vendor}.agent"

    def faults_of(self, said: Said, devices: Sequence[Device]) -> Iterator[Fault]:
        """What was said, as far as it is about `devices`."""
        own = [device for device in devices if device.vendor == self.vendor]
        for word in said.values():
            for device in self.meant(word.identity, own):
                yield from (_fault(self.source, device, complaint) for complaint in word.complaints)


def bounded(said: Said, dialect: Dialect, devices: Sequence[Device]) -> Said:
    """At most MAX_NAMES of what was said: of our devices first, then what was said last.

    A GPU that is not ours may be one that discovery has not found yet, so it is not left out.
    """
    if len(said) <= MAX_NAMES:
        return said
    latest = dict(reversed(list(said.items())))
    ours = {n: w for n, w in latest.items() if dialect.meant(w.identity, devices)}
    kept = dict(islice({**ours, **latest}.items(), MAX_NAMES))
    return {name: word for name, word in said.items() if name in kept}


def _kept(words: Iterable[tuple[str, str, Iterable[Complaint]]]) -> Said:
    """Words by name, of a name, an identity and complaints each; a GPU that nothing is said
    against needs no memory."""
    kept: dict[str, Word] = {}
    for name, identity, complaints in words:
        first = tuple(islice(complaints, MAX_COMPLAINTS))
        if first and max(len(name), len(identity)) <= MAX_NAME:
            kept[name] = Word(identity=identity.lower(), complaints=first)
    return kept


def _hear_amd(_: Said, answer: Any) -> Said:
    """Only the literal word takes a device away: unknown is not unhealthy."""
    row = ("unhealthy", "AMD's metrics exporter calls it unhealthy", FaultClass.RESET)
    bad = (s.Device for s in answer.GPUState if s.Health == "unhealthy")
    return _kept((address.lower(), address, (row,)) for address in bad)


def _hear_intel(_: Said, answer: Any) -> Said:
    told = ((device.info.pci.bdf, device.health) for device in answer.devices)
    return _kept((address.lower(), address, _intel_complaints(health)) for address, health in told)


def _intel_complaints(health: Iterable[Any]) -> Iterator[Complaint]:
    for status in health:
        kind = _SEVERITIES.get(status.severity)
        if kind is not None:
            text = _words(status.reason, status.message)
            yield one_line(status.name, 63) or "health", f"xpumd: {text}", kind


def _hear_nvidia(said: Said, answer: Any) -> Said:
    """A GPU has one name, the last that was used for it."""
    gpu = answer.object
    name, uuid = gpu.metadata.name or gpu.spec.uuid, gpu.spec.uuid or gpu.metadata.name
    others = {k: w for k, w in said.items() if k != name and w.identity != uuid.lower()}
    if answer.type == "DELETED":
        return others
    return {**others, **_kept([(name, uuid, _nvidia_complaints(gpu.status))])}


def _nvidia_complaints(status: Any) -> Iterator[Complaint]:
    """A GPU that is not ready is taken away; other conditions are told, whatever they mean."""
    for condition in status.conditions:
        good = condition.type in ("Ready", "Healthy")
        if condition.status == ("False" if good else "True"):
            code = one_line(condition.type, 63) or "condition"
            text = _words(condition.reason, condition.message, status.recommended_action)
            kind = FaultClass.RESET if good else FaultClass.WARN
            yield code, f"device API: {code}: {text}", kind


def _at(address: str, devices: Sequence[Device]) -> Sequence[Device]:
    """The whole devices at a PCI address."""
    here = {d.id: d for d in devices if d.pci_address == address}
    return [d for d in here.values() if d.parent not in here]


def _of_uuid(uuid: str, devices: Sequence[Device]) -> Sequence[Device]:
    return [device for device in devices if device.id.lower() == uuid]


def _fault(source: str, device: Device, complaint: Complaint) -> Fault:
    code, reason, kind = complaint
    return Fault(device=device.id, source=source, code=code, reason=reason, kind=kind, action=_ASK)


def _words(*texts: str) -> str:
    """One bounded line of what others wrote."""
    return one_line(" ".join(texts)) or "no reason given"


DIALECTS = (
    Dialect(
        vendor="amd",
        socket="/var/lib/amd-metrics-exporter/amdgpu_device_metrics_exporter_grpc.socket",
        method="/metricssvc.MetricsService/List",
        streams=False,
        request=empty_pb2.Empty(),
        answer=exporter_amd_pb2.GPUStateResponse,
        hear=_hear_amd,
        meant=_at,
    ),
    Dialect(
        vendor="intel",
        socket="/run/xpumd/intelxpuinfo.sock",
        method="/deviceinfo.DeviceInfo/WatchDeviceHealth",
        streams=True,
        request=exporter_intel_pb2.WatchDeviceHealthRequest(),
        answer=exporter_intel_pb2.DeviceHealthResponse,
        hear=_hear_intel,
        meant=_at,
    ),
    Dialect(
        vendor="nvidia",
        socket="/var/run/device-api/device.sock",
        method="/nvidia.device.v1alpha1.GpuService/WatchGpus",
        streams=True,
        request=exporter_nvidia_pb2.WatchGpusRequest(),
        answer=exporter_nvidia_pb2.WatchGpusResponse,
        hear=_hear_nvidia,
        meant=_of_uuid,
    ),
)
