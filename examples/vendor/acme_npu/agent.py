"""Acme's agent: a program on the node that reports the health of NPUs on a unix socket.

The daemon connects, tries again, bounds what it keeps and clears what is stale. Here stands only
how its messages are read. Acme's are lines of text, one for each NPU that is ill:
`ADDRESS NUMBER TEXT`.
"""

from collections.abc import Sequence

from acme_npu.health import CODES
from acme_npu.section import NAME
from deviceplugin.api import Agent, AgentReport, Complaint, Device, FaultClass, Reports

SOCKET = "/run/acme/health.sock"


class AcmeProtocol:
    """Each message has all NPUs that are ill now."""

    def parse(self, message: bytes, reports: Reports) -> Reports:
        """What stands against NPUs; raises ValueError for a message that is not text."""
        found = (line.split(maxsplit=2) for line in message.decode().splitlines())
        return {
            address: AgentReport(
                name=address, identity=address, complaints=(_complaint(number, text),)
            )
            for address, number, text in found
        }

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        """The NPU at an address."""
        return [device for device in devices if device.pci_address == identity]


def _complaint(number: str, text: str) -> Complaint:
    code, kind, action = CODES.get(number, ("unknown", FaultClass.INFO, "ask Acme"))
    return Complaint(code=code, reason=f"Acme's agent says {text!r}", kind=kind, action=action)


AGENT = Agent(
    source=f"{NAME}.agent",
    socket=SOCKET,
    method="/acme.health.v1.Health/Watch",
    protocol=AcmeProtocol(),
    streams=True,
)
