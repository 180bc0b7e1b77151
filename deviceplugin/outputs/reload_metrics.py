"""Whether the last change of the configuration was taken; the names are those of Prometheus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deviceplugin.outputs.exposition import Family


@dataclass(frozen=True, slots=True)
class LastReload:
    """Whether the configuration that is there now is the one in force, and since when (Unix
    seconds) the one in force is known to be good."""

    successful: bool
    succeeded_at: float


class ReloadCollector:
    """Reads the outcome at each scrape."""

    def __init__(self, last: Callable[[], LastReload]) -> None:
        self._last = last

    def collect(self) -> Iterator[Family]:
        """Both gauges."""
        last = self._last()
        taken = Family(
            "deviceplugin_config_last_reload_successful",
            "gauge",
            "1 while the configuration that is there is in force, 0 while it is refused",
        )
        taken.add((), float(last.successful))
        yield taken
        at = Family(
            "deviceplugin_config_last_reload_success_timestamp_seconds",
            "gauge",
            "When a configuration was last taken or found unchanged",
        )
        at.add((), last.succeeded_at)
        yield at
