"""Whom the page asks."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from deviceplugin.health.report import Held, Listed
from deviceplugin.model import Inventory

if TYPE_CHECKING:  # of capabilities that may be off, and of what nobody may ask for
    from deviceplugin.page.model import AlertStatus
    from deviceplugin.page.status import Trends
    from deviceplugin.telemetry.model import TelemetryView


class Sources(Struct, frozen=True, kw_only=True):
    """Whom the page asks; each is called on another thread than the loop's.

    `view`, `trends` and `alerts` are those of capabilities that may be off.
    """

    now: Callable[[], float]
    inventory: Callable[[], Inventory]
    held: Callable[[], Iterable[Held]]
    listed: Callable[[], Listed]
    notices: Callable[[], Sequence[str]] = tuple
    view: "Callable[[], TelemetryView | None]" = lambda: None
    trends: "Callable[[], Trends]" = dict
    alerts: "Callable[[], tuple[AlertStatus, ...]]" = tuple
