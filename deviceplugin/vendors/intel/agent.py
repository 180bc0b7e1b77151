"""Intel's XPU manager daemon (xpumd) as an agent: a stream of the health of all devices.

What is read of its answers stands in protos/exporter_intel.proto, and is imported with the first
answer: a node without the daemon does not pay for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from deviceplugin.host.pci import devices_at
from deviceplugin.model import Device, FaultClass
from deviceplugin.names import one_line
from deviceplugin.vendor import MAX_COMPLAINTS, Agent, AgentReport, Complaint, Reports

# xpumd's severities; 0 is unknown, 1 is fine.
_SEVERITIES = {2: FaultClass.WARN, 3: FaultClass.RESET, 4: FaultClass.HARDWARE}


class XpumdProtocol(Struct, frozen=True):
    """Each answer has all devices, by PCI address."""

    def parse(self, message: bytes, _: Reports) -> Reports:
        """The statuses from a warning on, each a complaint."""
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        from deviceplugin.pb import exporter_intel_pb2  # noqa: PLC0415  # where there is an answer

        try:
            answer = exporter_intel_pb2.DeviceHealthResponse.FromString(message)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        reports = (_report(device.info.pci.bdf.lower(), device.health) for device in answer.devices)
        return {report.name: report for report in reports if report.complaints}

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        """The device at the address."""
        return devices_at(identity, devices)


def _report(address: str, health: Iterable[Any]) -> AgentReport:
    complaints = tuple(islice(_complaints(health), MAX_COMPLAINTS))
    return AgentReport(name=address, identity=address, complaints=complaints)


def _complaints(health: Iterable[Any]) -> Iterator[Complaint]:
    for status in health:
        kind = _SEVERITIES.get(status.severity)
        if kind is not None:
            reason = one_line(f"{status.reason} {status.message}") or "no reason given"
            yield Complaint(
                code=one_line(status.name, 63) or "health", reason=f"xpumd: {reason}", kind=kind
            )


XPUMD = Agent(
    source="intel.agent",
    socket="/run/xpumd/intelxpuinfo.sock",
    method="/deviceinfo.DeviceInfo/WatchDeviceHealth",
    protocol=XpumdProtocol(),
    streams=True,
)
