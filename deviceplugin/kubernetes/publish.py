"""Tells the cluster's scheduler of the node's GPUs, as a part of the daemon; off by default."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from deviceplugin.kubernetes.section import KubernetesSection
from deviceplugin.kubernetes.service import OfNode, kubernetes_section
from deviceplugin.runtime.part import Once, Part

if TYPE_CHECKING:  # HTTPS takes memory that only those pay who want it
    from deviceplugin.kubernetes.api import Access
    from deviceplugin.kubernetes.facts import NodeFacts

log = structlog.get_logger()

LOOK_S = 5.0
AGAIN_S = 600.0  # others may have removed it


class FactsPart(Part[OfNode]):
    """Keeps the node's annotation true to `facts`, which is None before every vendor has looked."""

    def __init__(
        self,
        config: OfNode,
        facts: "Callable[[], NodeFacts | None]",
        access: "Callable[[], Access] | None" = None,
    ) -> None:
        self._node, self._on = config.node_name, _asked(kubernetes_section(config))
        self._facts, self._access = facts, access
        self._used = asyncio.Event()
        self._failure = ""
        self.look_s = LOOK_S

    def tasks(self) -> Mapping[str, Once]:
        """The writes."""
        return {"facts": self._run}

    async def use(self, config: OfNode) -> None:
        """Write, or write no more, as the configuration asks."""
        self._node, self._on = config.node_name, _asked(kubernetes_section(config))
        self._used.set()

    async def _run(self) -> None:
        while True:
            while not self._on:
                await self._wait(None)
            from deviceplugin.kubernetes.api import ApiError, in_cluster  # noqa: PLC0415  # where it is on

            try:
                access = (self._access or in_cluster)()
            except ApiError as error:
                log.warning("kubernetes_not_written", kind="facts", reason=str(error))
                await self._wait(None)
                continue
            while self._on:
                node = self._node
                await self._follow(access, node)
                if not (self._on and self._node == node):
                    await self._write(access, node, None)

    async def _follow(self, access: "Access", node: str) -> None:
        """For as long as it is on and this is the node's name."""
        from deviceplugin.kubernetes.facts import written  # noqa: PLC0415  # where it is on

        last, due = "", 0.0
        while self._on and self._node == node:
            now, facts = asyncio.get_running_loop().time(), self._facts()
            text = written(facts) if facts else ""
            if text and (text != last or now >= due) and await self._write(access, node, text):
                last, due = text, now + AGAIN_S
            await self._wait(self.look_s)

    async def _write(self, access: "Access", node: str, text: str | None) -> bool:
        from deviceplugin.kubernetes.api import MERGE, Api, ApiError  # noqa: PLC0415  # where it is on
        from deviceplugin.kubernetes.facts import ANNOTATION  # noqa: PLC0415

        body = {"metadata": {"annotations": {ANNOTATION: text}}}
        try:
            await asyncio.to_thread(
                Api(access).request, "PATCH", f"/api/v1/nodes/{node}", body, MERGE
            )
        except ApiError as error:
            if str(error) != self._failure:
                log.warning("kubernetes_not_written", kind="facts", reason=str(error))
            self._failure = str(error)
            return False
        self._failure = ""
        return True

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._used.wait()
        self._used.clear()


def _asked(section: KubernetesSection) -> bool:
    return section.facts
