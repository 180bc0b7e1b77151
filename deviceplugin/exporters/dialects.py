"""What each vendor's agent says, as faults of our devices; pure but for what a stream adds up."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2

from deviceplugin.lines import one_line
from deviceplugin.model import Device, Fault, FaultClass
from deviceplugin.pb import exporter_amd_pb2, exporter_intel_pb2, exporter_nvidia_pb2

# What an agent said last, by its name for the device; a stream may speak of one device at a time.
Said = Mapping[str, Any]  # Any: one of the generated messages
_ASK = "see the agent's log and the kernel log for this GPU"
_SEVERITIES = {2: FaultClass.WARN, 3: FaultClass.RESET, 4: FaultClass.HARDWARE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How to ask an agent and how to read it; `streams` where it goes on answering by itself.

    `hear` adds an answer to what was said before, `faults_of` makes faults of all of it.
    """

    vendor: str
    socket: str
    method: str
    streams: bool
    request: Any
    answer: Any
    hear: Callable[[Said, Any], Said]
    faults_of: Callable[[Said, Sequence[Device]], Iterator[Fault]]

    @property
    def source(self) -> str:
        """The source of its faults."""
        return f"{self.vendor}.agent"


def _hear_amd(_: Said, answer: Any) -> Said:
    return {state.Device: state for state in answer.GPUState}


def _amd_faults(said: Said, devices: Sequence[Device]) -> Iterator[Fault]:
    """Only the literal word takes a device away: unknown is not unhealthy."""
    for address, state in said.items():
        if state.Health == "unhealthy":
            row = ("unhealthy", "AMD's metrics exporter calls it unhealthy", FaultClass.RESET)
            yield from _faults("amd", _at(address, devices), row)


def _hear_intel(_: Said, answer: Any) -> Said:
    return {device.info.pci.bdf: device for device in answer.devices}


def _intel_faults(said: Said, devices: Sequence[Device]) -> Iterator[Fault]:
    for address, device in said.items():
        for status in device.health:
            kind = _SEVERITIES.get(status.severity)
            if kind is not None:
                text = _words(status.reason, status.message)
                row = (one_line(status.name, 63) or "health", f"xpumd: {text}", kind)
                yield from _faults("intel", _at(address, devices), row)


def _hear_nvidia(said: Said, answer: Any) -> Said:
    name = answer.object.metadata.name or answer.object.spec.uuid
    others = {key: gpu for key, gpu in said.items() if key != name}
    return others if answer.type == "DELETED" else {**others, name: answer.object}


def _nvidia_faults(said: Said, devices: Sequence[Device]) -> Iterator[Fault]:
    """A GPU that is not ready is taken away; other conditions are told, whatever they mean."""
    for gpu in said.values():
        uuid = gpu.spec.uuid or gpu.metadata.name
        found = [device for device in devices if device.id.lower() == uuid.lower()]
        for condition in gpu.status.conditions:
            good = condition.type in ("Ready", "Healthy")
            if condition.status == ("False" if good else "True"):
                kind = FaultClass.RESET if good else FaultClass.WARN
                code = one_line(condition.type, 63) or "condition"
                text = _words(condition.reason, condition.message, gpu.status.recommended_action)
                row = (code, f"device API: {code}: {text}", kind)
                yield from _faults("nvidia", found, row)


def _at(address: str, devices: Sequence[Device]) -> list[Device]:
    here = {d.id for d in devices if d.pci_address == address.lower()}
    return [d for d in devices if d.id in here and d.parent not in here]


def _faults(
    vendor: str, devices: Iterable[Device], row: tuple[str, str, FaultClass]
) -> Iterator[Fault]:
    code, reason, kind = row
    for device in devices:
        source = f"{vendor}.agent"
        yield Fault(
            device=device.id, source=source, code=code, reason=reason, kind=kind, action=_ASK
        )


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
        faults_of=_amd_faults,
    ),
    Dialect(
        vendor="intel",
        socket="/run/xpumd/intelxpuinfo.sock",
        method="/deviceinfo.DeviceInfo/WatchDeviceHealth",
        streams=True,
        request=exporter_intel_pb2.WatchDeviceHealthRequest(),
        answer=exporter_intel_pb2.DeviceHealthResponse,
        hear=_hear_intel,
        faults_of=_intel_faults,
    ),
    Dialect(
        vendor="nvidia",
        socket="/var/run/device-api/device.sock",
        method="/nvidia.device.v1alpha1.GpuService/WatchGpus",
        streams=True,
        request=exporter_nvidia_pb2.WatchGpusRequest(),
        answer=exporter_nvidia_pb2.WatchGpusResponse,
        hear=_hear_nvidia,
        faults_of=_nvidia_faults,
    ),
)
