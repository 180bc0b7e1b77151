"""Which alerts are pending and which fire, from one look at the readings to the next; pure."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from deviceplugin.alerts.condition import Condition, parse_condition, unmeasured
from deviceplugin.alerts.section import AlertSection, parse_duration
from deviceplugin.model import DeviceID
from deviceplugin.telemetry.model import TelemetryView

MAX_STANDING = 1000  # more than anyone reads: what comes later waits until some have ended


class Alert(Struct, frozen=True, kw_only=True):
    """An alert as it is judged."""

    name: str
    severity: str
    condition: Condition
    for_s: int


class Standing(Struct, frozen=True, kw_only=True):
    """An alert whose condition holds on a device since `since` (Unix seconds)."""

    alert: Alert
    device: DeviceID
    since: float
    value: float
    firing: bool


States = Mapping[tuple[str, DeviceID], Standing]


def alerts_of(sections: Iterable[AlertSection]) -> Sequence[Alert]:
    """Those that can be judged at all."""
    return [
        Alert(
            name=one.name,
            severity=one.severity,
            condition=parse_condition(one.condition),
            for_s=parse_duration(one.duration),
        )
        for one in sections
        if not unmeasured(one.condition)
    ]


def judged(before: States, alerts: Sequence[Alert], view: TelemetryView, now: float) -> States:
    """The alerts that stand after a look: what a device does not tell raises no alert and ends
    one, as does a device that is lost, which is a fault and has its own alert."""
    found: dict[tuple[str, DeviceID], Standing] = {}
    for alert in alerts:
        for device, shown in view.devices.items():
            value = alert.condition.quantity.value(shown) if shown.up else None
            if value is None or not alert.condition.holds(value):
                continue
            key = (alert.name, device)
            old = before.get(key)
            since = old.since if old is not None and old.since <= now else now
            if len(found) < MAX_STANDING:
                found[key] = Standing(
                    alert=alert,
                    device=device,
                    since=since,
                    value=value,
                    firing=now - since >= alert.for_s,
                )
    return found


def changes(before: States, after: States) -> Iterable[tuple[str, Standing]]:
    """What began to fire, and what does not any more."""
    for key, one in after.items():
        old = before.get(key)
        if one.firing and not (old is not None and old.firing):
            yield "alert_firing", one
    for key, one in before.items():
        now = after.get(key)
        if one.firing and not (now is not None and now.firing):
            yield "alert_resolved", one
