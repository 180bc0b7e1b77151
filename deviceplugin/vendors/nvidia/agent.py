"""NVIDIA's device API as an agent: a stream of changes, each about one GPU.

What is read of its answers stands in protos/exporter_nvidia.proto, and is imported with the first
answer: a node without the device API does not pay for it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from deviceplugin.model import Device, FaultClass
from deviceplugin.names import one_line
from deviceplugin.vendor import MAX_COMPLAINTS, Agent, AgentReport, Complaint, Reports


class DeviceApiProtocol(Struct, frozen=True):
    """Each answer is about one GPU, by UUID; a GPU has one name, the last used for it."""

    def parse(self, message: bytes, reports: Reports) -> Reports:
        """The reports with that of the answer's GPU in place of its last one."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        from deviceplugin.pb import exporter_nvidia_pb2  # noqa: PLC0415  # where there is an answer

        try:
            answer = exporter_nvidia_pb2.WatchGpusResponse.FromString(message)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        gpu = answer.object
        name = gpu.metadata.name or gpu.spec.uuid
        uuid = (gpu.spec.uuid or gpu.metadata.name).lower()
        others = {k: r for k, r in reports.items() if k != name and r.identity != uuid}
        complaints = tuple(islice(_complaints(gpu.status), MAX_COMPLAINTS))
        if answer.type == "DELETED" or not complaints:
            return others
        return {**others, name: AgentReport(name=name, identity=uuid, complaints=complaints)}

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        """The GPU or MIG device of the UUID."""
        return [device for device in devices if device.id.lower() == identity]


def _complaints(status: Any) -> Iterator[Complaint]:
    """A GPU that is not ready is marked Unhealthy; other conditions are reported only."""
    for condition in status.conditions:
        good = condition.type in ("Ready", "Healthy")
        if condition.status == ("False" if good else "True"):
            code = one_line(condition.type, 63) or "condition"
            told = one_line(f"{condition.reason} {condition.message} {status.recommended_action}")
            yield Complaint(
                code=code,
                reason=f"device API: {code}: {told or 'no reason given'}",
                kind=FaultClass.RESET if good else FaultClass.WARN,
            )


DEVICE_API = Agent(
    source="nvidia.agent",
    socket="/var/run/device-api/device.sock",
    method="/nvidia.device.v1alpha1.GpuService/WatchGpus",
    protocol=DeviceApiProtocol(),
    streams=True,
)
