"""What a daemon is made from, and what its parts have in common."""

from collections.abc import Callable, Sequence

from msgspec import Struct, field

from deviceplugin.alerts.service import AlertsPart
from deviceplugin.audit.service import AuditPart
from deviceplugin.config.config import Config
from deviceplugin.config.reload import Origin
from deviceplugin.daemon.generation import Generations
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.enforcement.service import EnforcementPart
from deviceplugin.health.service import HealthPart
from deviceplugin.kubelet.service import EndpointsPart, KubeletPart
from deviceplugin.provision.seat import Seat
from deviceplugin.resources.allocator import Allocator
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.part import Part
from deviceplugin.telemetry.service import TelemetryPart
from deviceplugin.vendor import Vendor


class Start(Struct, frozen=True, kw_only=True):
    """What a daemon is made from.

    `now` gives Unix seconds, `seed` the jitter of retries. An id or a resource name that two
    vendors report is that of the earlier one in `vendors`. Without an `origin` the configuration
    is never read again.
    """

    config: Config
    vendors: Sequence[Vendor]
    now: Callable[[], float]
    seed: int
    origin: Origin | None = None


class Core(Struct, frozen=True, kw_only=True):
    """What every capability may work with; all of it outlives a reload."""

    start: Start
    keeper: Keeper
    health: HealthPart
    sharing: SharingPart
    generations: Generations
    allocator: Allocator
    kubelet: KubeletPart
    telemetry: TelemetryPart
    alerts: AlertsPart
    audit: AuditPart
    enforcement: EnforcementPart
    endpoints: EndpointsPart
    seat: Seat = field(default_factory=Seat)


Capability = Callable[[Core], Part[Config]]
