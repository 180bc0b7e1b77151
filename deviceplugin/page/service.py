"""The page as a part of the daemon: its paths, and who may see pods on it."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from deviceplugin.metrics.local import names_pods
from deviceplugin.page.section import PageSection
from deviceplugin.page.sources import Sources
from deviceplugin.runtime.part import Operation, Page, Part, Reply, Response, Sectioned
from deviceplugin.schema import Section, section_of

JSON = "application/json"
OFF = Response("404 Not Found", "text/plain; charset=utf-8", "page.enabled is false\n")


class Shown(Sectioned, Protocol):
    """A configuration, as the page sees it."""

    @property
    def node_name(self) -> str:
        """The node's name in Kubernetes."""

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Where the page is, None where it is nowhere."""


class StatusRequest(Section, frozen=True):
    """The status document, with pods: who asks on the control socket is root."""

    operation: str


class PagePart(Part[Shown]):
    """`/`, `/events`, `/status` and what belongs to them, of what `sources` know."""

    def __init__(self, config: Shown, sources: Sources) -> None:
        self._sources = sources
        self._take(config)

    def _take(self, config: Shown) -> None:
        self._section = section_of(config.sections, "page", PageSection)
        self._node = config.node_name
        self._pods = names_pods(config.sections, config.metrics_address)

    async def use(self, config: Shown) -> None:
        """Show what the configuration asks for from now on."""
        self._take(config)

    def operations(self) -> Mapping[str, Operation]:
        """status."""
        return {"status": Operation(StatusRequest, self._answer)}

    async def _answer(self, _: StatusRequest) -> Reply:
        from deviceplugin.page.made import document  # noqa: PLC0415

        return await asyncio.to_thread(document, self._sources, self._node)

    def routes(self) -> Mapping[str, Page]:
        """The paths; what makes them is loaded when the first one is asked for."""
        return {
            "/": lambda: self._made("text/html; charset=utf-8", "html"),
            "/events": lambda: self._made("text/event-stream", "event"),
            "/status": lambda: self._made(JSON, "json"),
            "/status/schema": lambda: self._made(JSON, "schema"),
            "/page.css": lambda: self._made("text/css", "style"),
            "/page.js": lambda: self._made("text/javascript", "script"),
        }

    def _made(self, content_type: str, what: str) -> Response:
        if not self._section.enabled:
            return OFF
        from deviceplugin.page.made import MAKERS  # noqa: PLC0415

        text = MAKERS[what](self._sources, self._node, self._pods)
        return Response("200 OK", content_type, text)
