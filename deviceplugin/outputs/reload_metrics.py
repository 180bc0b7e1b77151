"""Whether the last change of the configuration was taken; the names are those of Prometheus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class LastReload:
    """Whether the configuration that is there now is the one in force, and since when (Unix
    seconds) the one in force is known to be good."""

    successful: bool
    succeeded_at: float


class ReloadCollector(Collector):
    """Reads the outcome at each scrape."""

    def __init__(self, last: Callable[[], LastReload]) -> None:
        self._last = last

    def collect(self) -> Iterator[Metric]:
        """Both gauges."""
        last = self._last()
        yield GaugeMetricFamily(
            "deviceplugin_config_last_reload_successful",
            "1 while the configuration that is there is in force, 0 while it is refused",
            value=float(last.successful),
        )
        yield GaugeMetricFamily(
            "deviceplugin_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken or found unchanged",
            value=last.succeeded_at,
        )
