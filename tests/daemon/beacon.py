"""A capability as each of ours is one: its section, its part, its series, in one place.

It blinks every `interval_s` seconds, by the colour of its section.
"""

import asyncio
from collections.abc import Iterator, Mapping

from deviceplugin.config.config import Config
from deviceplugin.daemon.core import Core
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.registry import Family
from deviceplugin.resources.allocation import Allocation
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import (
    Collector,
    Once,
    Operation,
    Page,
    Part,
    Reply,
    Response,
    Sectioned,
)
from deviceplugin.schema import Section


class BeaconSection(Section, frozen=True):
    """Section `beacon`."""

    colour: str = "green"
    interval_s: float = 0.01


SECTIONS = {"beacon": BeaconSection}


def beacon_section(config: Sectioned) -> BeaconSection:
    """The section `beacon` of a configuration."""
    section: BeaconSection = config.sections["beacon"]
    return section


class BeaconRequest(Section, frozen=True):
    """What an operator may ask; `operation` is beacon."""

    operation: str
    times: int = 1


class BeaconPart(Part[Config]):
    """Everything that a part can have."""

    def __init__(self, core: Core) -> None:
        self.blinks = Latest(0)
        self.allocations: list[Allocation] = []
        self._section = beacon_section(core.start.config)
        core.allocator.listen("beacon", self.allocations.append)

    def tasks(self) -> Mapping[str, Once]:
        return {"beacon": self._blink}

    def check(self, config: Config) -> None:
        if beacon_section(config).colour == "red":
            raise ConfigError("beacon.colour", "red", "another colour")

    async def use(self, config: Config) -> None:
        self._section = beacon_section(config)

    def collectors(self) -> Mapping[str, Collector]:
        return {"beacon": self}

    def collect(self) -> Iterator[Family]:
        if self._section.colour == "black":
            raise RuntimeError("nothing to see")
        family = Family("deviceplugin_beacon_blinks_total", "counter", "Blinks", ["colour"])
        family.add([self._section.colour], self.blinks.value)
        yield family

    def operations(self) -> Mapping[str, Operation]:
        return {"beacon": Operation(BeaconRequest, self._answer)}

    def routes(self) -> Mapping[str, Page]:
        return {"/beacon": lambda: Response("200 OK", "text/plain", self._section.colour)}

    def problem(self) -> str:
        return "" if self.blinks.value else "the first blink"

    async def _blink(self) -> None:
        while True:
            await asyncio.sleep(self._section.interval_s)
            self.blinks.set(self.blinks.value + 1)

    async def _answer(self, request: BeaconRequest) -> Reply:
        before = self.blinks.value
        await self.blinks.until(lambda blinks: blinks >= before + request.times)
        return {"colour": self._section.colour}
