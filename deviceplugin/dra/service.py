"""Dynamic resource allocation as a part of the daemon; off, it imports nothing and holds nothing
but what claims that were prepared before still have."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from deviceplugin.dra.section import dra_section
from deviceplugin.dra.settings import OfNode
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.part import Operation, Part, Reply, Sectioned
from deviceplugin.schema import Section

if TYPE_CHECKING:  # for those who want it
    from deviceplugin.dra.node import DraNode
    from deviceplugin.dra.wiring import Wiring

log = structlog.get_logger()


OFF = "dra.enabled is false: no claim is served"


class DraRequest(Section, frozen=True):
    """`operation` is dra; `release` is that of the API server for which slices are shown."""

    operation: str
    release: str = ""


class DraConfig(Sectioned, OfNode, Protocol):
    """A configuration with the daemon's directories and the node's name."""


class DraPart(Part[DraConfig]):
    """Stands before the part that serves the kubelet: what claims hold is known before anything is
    given by the device plugin. `wiring` is made when it is wanted."""

    def __init__(self, config: DraConfig, wiring: "Callable[[], Wiring]") -> None:
        self._config, self._wiring = config, wiring
        self._section = dra_section(config.sections)
        self._node: DraNode | None = None
        self._unread = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The drivers."""
        if self._section.enabled or _has_claims(self._config.state_dir):
            self._begin()
        try:
            yield
        finally:
            await self._end()

    async def use(self, config: DraConfig) -> None:
        """Serve as `config` says; what claims hold they keep."""
        section = dra_section(config.sections)
        same = (section, config.node_name) == (self._section, self._config.node_name)
        self._config, self._section = config, section
        if not same:
            await self._end()
            if section.enabled:
                self._begin()
        elif self._node is not None:
            self._node.wake()  # the rules may be others

    def operations(self) -> Mapping[str, Operation]:
        """dra: the slices and claims of the node."""
        return {"dra": Operation(DraRequest, self._answer)}

    async def _answer(self, request: DraRequest) -> Reply:
        if self._node is None:
            raise ControlError(self._unread or OFF)
        from deviceplugin.dra.report import dra_document, minor_of  # noqa: PLC0415  # where it is on

        try:
            minor = minor_of(request.release)
        except ConfigError as error:
            raise ControlError(str(error)) from error
        return dra_document(self._config.node_name, self._node.drivers.values(), minor)

    def remark(self) -> str:
        """What keeps drivers from their work."""
        if self._node is None or not self._section.enabled:
            return self._unread
        return self._node.problems()

    def _begin(self) -> None:
        """Blocks for a moment, so that there is no other before what is held is known."""
        from deviceplugin.dra.node import DraNode  # noqa: PLC0415

        node = DraNode(self._config, self._section, self._wiring())
        self._unread = _load_problem(node)
        if self._unread:
            log.error("dra_not_served", reason=self._unread)
            return
        self._node = node
        if self._section.enabled:
            node.start()
        else:
            text = "prepared claims hold their devices until the node starts again"
            log.warning("dra_is_off", reason=f"{text}, or dra.enabled is true again")

    async def _end(self) -> None:
        if self._node is not None:
            await self._node.end()
            self._node = None


def _load_problem(node: "DraNode") -> str:
    """Whoever does not know what is held must not give anything: the device plugin goes on."""
    try:
        node.load()
    except DevicePluginError as error:
        return f"what claims hold is not known, so none is served: {error}"
    return ""


def _has_claims(state_dir: Path) -> bool:
    """Whether any claim was prepared and not given back, on a cheap look."""
    try:
        drivers = [entry.path for entry in os.scandir(state_dir / "dra") if entry.is_dir()]
        return any(name.endswith(".json") for path in drivers for name in os.listdir(path))
    except OSError:
        return False
