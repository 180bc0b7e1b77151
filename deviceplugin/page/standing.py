"""The alerts that are pending or firing, as the page shows them; pure."""

from deviceplugin.alerts.judge import States
from deviceplugin.page.model import AlertStatus


def alert_statuses(states: States) -> tuple[AlertStatus, ...]:
    """One for each alert and device, those that fire first."""
    standing = sorted(states.values(), key=lambda one: (not one.firing, one.alert.name, one.device))
    return tuple(
        AlertStatus(
            name=one.alert.name,
            severity=one.alert.severity,
            state="firing" if one.firing else "pending",
            device=one.device,
            condition=one.alert.condition.text,
            value=one.alert.condition.quantity.shown(one.value),
            since=one.since,
        )
        for one in standing
    )
