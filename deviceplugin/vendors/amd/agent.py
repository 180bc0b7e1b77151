"""AMD's metrics exporter as an agent: its List call returns the health of each GPU.

What is read of its answers stands in protos/exporter_amd.proto, and is imported with the first
answer: a node without the exporter does not pay for it.
"""

from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.host.pci import devices_at
from deviceplugin.model import Device, FaultClass
from deviceplugin.vendor import Agent, AgentReport, Complaint, Reports

UNHEALTHY = Complaint(
    code="unhealthy", reason="AMD's metrics exporter calls it unhealthy", kind=FaultClass.RESET
)


class ExporterProtocol(Struct, frozen=True):
    """Each answer has all GPUs, by PCI address."""

    def parse(self, message: bytes, _: Reports) -> Reports:
        """Only the literal `unhealthy` counts: `unknown` is not unhealthy."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        from deviceplugin.pb import exporter_amd_pb2  # noqa: PLC0415  # where there is an answer

        try:
            answer = exporter_amd_pb2.GPUStateResponse.FromString(message)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        addresses = (gpu.Device.lower() for gpu in answer.GPUState if gpu.Health == "unhealthy")
        return {a: AgentReport(name=a, identity=a, complaints=(UNHEALTHY,)) for a in addresses}

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        """The GPU at the address; a fault of a GPU reaches its partitions by itself."""
        return devices_at(identity, devices)


EXPORTER = Agent(
    source="amd.agent",
    socket="/var/lib/amd-metrics-exporter/amdgpu_device_metrics_exporter_grpc.socket",
    method="/metricssvc.MetricsService/List",
    protocol=ExporterProtocol(),
)
