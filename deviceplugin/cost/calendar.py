"""Months and moments as bills have them; pure."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


def month_of(moment: float, zone: ZoneInfo) -> tuple[float, float]:
    """The calendar month of a moment: its first moment and that of the next, in Unix seconds."""
    local = datetime.fromtimestamp(moment, zone)
    first = datetime(local.year, local.month, 1, tzinfo=zone)
    after = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)
    return first.timestamp(), after.timestamp()


def day_of(moment: float, zone: ZoneInfo) -> str:
    """The day of a moment there, such as 2026-03-01."""
    return datetime.fromtimestamp(moment, zone).date().isoformat()


def day_s(day: str, zone: ZoneInfo) -> float:
    """How long the day is there, in seconds."""
    first = date.fromisoformat(day)
    begin, end = (
        datetime.combine(one, datetime.min.time(), zone).timestamp()
        for one in (first, first + timedelta(days=1))
    )
    return end - begin


def utc(moment: float) -> str:
    """A moment as 2026-03-01T00:00:00Z."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
