"""How many lines about one device and source the log gets; pure.

What an agent, a driver or failing hardware reports again and again is in /metrics and in
`deviceplugin health`. In the log it would drive out everything else.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

LINES = 10
WINDOW_S = 60.0
MAX_KEYS = 4096  # more than a node has; beyond them the oldest begins again
Key = tuple[str, str]


class Line(Enum):
    """What becomes of an event: it is logged, it is the first that is not, it is not."""

    LOGGED = "logged"
    LIMIT = "limit"
    DROPPED = "dropped"


class LogLimit:
    """At most LINES about one device and source within WINDOW_S; the caller gives the time."""

    def __init__(self) -> None:
        self._logged: dict[Key, list[float]] = {}
        self._limited: dict[Key, float] = {}  # when it was said

    def line(self, fields: Mapping[str, Any], now: float) -> Line:
        """What becomes of an event with these fields; one without a device is always logged."""
        if "device" not in fields:
            return Line.LOGGED
        key = (str(fields["device"]), str(fields.get("source", "")))
        logged = [at for at in self._logged.pop(key, ()) if at > now - WINDOW_S]
        self._logged[key] = logged
        if len(logged) < LINES:
            logged.append(now)
            self._forget_oldest()
            return Line.LOGGED
        if self._limited.get(key, now - WINDOW_S) > now - WINDOW_S:
            return Line.DROPPED
        self._limited[key] = now
        return Line.LIMIT

    def _forget_oldest(self) -> None:
        if len(self._logged) > MAX_KEYS:
            oldest = next(iter(self._logged))
            del self._logged[oldest]
            self._limited.pop(oldest, None)
