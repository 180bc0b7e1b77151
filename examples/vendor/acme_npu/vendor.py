"""The vendor object: what the daemon asks, on which thread, stands in docs/vendors.md."""

from collections.abc import Sequence

from acme_npu.agent import AGENT
from acme_npu.discovery import discover
from acme_npu.edits import cdi_spec, edits_of
from acme_npu.health import read_health
from acme_npu.section import NAME, AcmeSection
from acme_npu.sharing import limits_of
from deviceplugin.api import (
    Agent,
    CdiSpec,
    ContainerEdits,
    Device,
    Discovery,
    Finding,
    Grant,
    Host,
    TracingHost,
    traced,
)


class AcmeVendor:
    """Acme's NPUs as sysfs shows them."""

    name = NAME

    def __init__(self, host: Host, section: AcmeSection) -> None:
        self._host, self._section = host, section
        self._trace: TracingHost | None = None

    def discover(self) -> Discovery:
        """Look at everything; what was read is kept for `unchanged`."""
        self._trace = traced(self._host)
        return discover(self._trace, self._section)

    def unchanged(self) -> bool:
        """Whether all that the last discovery read is as it was."""
        return self._trace is not None and self._trace.holds()

    def probe_health(self, device: Device) -> Finding:
        """What the driver says of one NPU, asked after each discovery."""
        return read_health(self._host, device)

    def agents(self) -> Sequence[Agent]:
        """Acme's agent; on a node without it this costs nothing."""
        return (AGENT,)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """What a container with these NPUs gets; pure."""
        return edits_of(devices, self._section)

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        """What a container with shares of NPUs gets beside that; pure."""
        return limits_of(grants)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """The CDI file; one without devices, where CDI is off, means no file."""
        return (cdi_spec(devices if self._section.cdi else ()),)
