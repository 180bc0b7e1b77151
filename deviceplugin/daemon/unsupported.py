"""Keys that ask for what nothing here can do, where they are allowed: told as a metric."""

from collections.abc import Iterator, Mapping

from deviceplugin.config.config import Config
from deviceplugin.metrics.registry import Family
from deviceplugin.runtime.part import Collector, Part


class UnsupportedPart(Part[Config]):
    """Holds them for `/metrics` and for whoever asks for the daemon's state."""

    def __init__(self, config: Config) -> None:
        self._take(config)

    @property
    def notice(self) -> str:
        """One line for each; empty where there are none."""
        return "\n".join(f"unsupported: {text}" for text in self._unsupported)

    async def use(self, config: Config) -> None:
        """Those of the new configuration."""
        self._take(config)

    def collectors(self) -> Mapping[str, Collector]:
        """Their number."""
        return {"unsupported": self}

    def collect(self) -> Iterator[Family]:
        """The gauge."""
        family = Family(
            "deviceplugin_config_unsupported_keys",
            "gauge",
            "Keys of the configuration that ask for what nothing here can do, and are allowed",
        )
        family.add((), float(len(self._unsupported)))
        yield family

    def _take(self, config: Config) -> None:
        self._allowed, self._unsupported = config.allow_unsupported, config.unsupported
