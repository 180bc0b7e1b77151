"""Whether the kernel and the drivers tell of changes, and how often to look for ourselves."""

from collections.abc import Mapping

from deviceplugin.runtime.latest import Latest

ALONE_S, WITH_SIGNS_S = 5.0, 10.0


def next_tick_s(now_s: float, interval_s: float, earliest_s: float) -> float:
    """The next look, at a whole multiple of the interval (monotonic seconds): all vendors look
    together, and an idle processor is woken once."""
    return ((now_s + earliest_s) // interval_s + 1) * interval_s


class Signs:
    """Who tells of changes: the kernel by uevents, and drivers by events of their own.

    Until it is known whether there are uevents, there are none.
    """

    def __init__(self) -> None:
        self.uevents: Latest[bool | None] = Latest(None)

    def interval_s(self, watched: bool | None) -> float:
        """Seconds between two looks at a vendor; `watched` says whether its driver's events are
        listened to, None where it has none."""
        return WITH_SIGNS_S if self.uevents.value and watched is not False else ALONE_S

    def notice(self, watched: Mapping[str, bool]) -> str:
        """What an operator should know where changes are looked for more often; `watched` has the
        vendors whose drivers have events."""
        looked = f"changes are looked for every {ALONE_S:g} s"
        if self.uevents.value is False:
            return f"{looked}: the kernel's events are not available"
        silent = ", ".join(sorted(vendor for vendor, runs in watched.items() if not runs))
        return f"{looked}: the driver of {silent} reports no events" if silent else ""
