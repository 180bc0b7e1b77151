"""Asks the kubelet what pods hold: right after each Allocate, else now and then, never twice a
second."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from deviceplugin.kubelet.ledger import Ledger
from deviceplugin.kubelet.podresources import (
    Holders,
    HoldersUnknownError,
    Holding,
    PodResources,
    by_resource,
)
from deviceplugin.kubelet.socketwatch import SocketIdentity, read_identity

log = structlog.get_logger()

SHORTEST_S = 1.0
CONTESTED_S = 2.0
INTERVAL_S = 10.0  # nobody waits for an answer: for metrics and placement only
MOST_PODS = 8  # confirmed at once: each is a question more


class LedgerWatch:
    """Keeps `ledger` true to the PodResources API at `socket_path`.

    `observed` is told each answer; `contested` says whether somebody waits for a release.
    """

    def __init__(
        self,
        ledger: Ledger,
        socket_path: Path,
        observed: Callable[[Holders], None],
        contested: Callable[[], bool],
    ) -> None:
        self._ledger, self._path = ledger, socket_path
        self._observed, self._contested = observed, contested
        self._kubelet: SocketIdentity | None = None
        self._api = PodResources(socket_path)
        self._wanted = asyncio.Event()
        self._asking = asyncio.Lock()
        self._gets = True
        self._told = ""

    @property
    def absent(self) -> bool:
        """Whether this kubelet has no PodResources API, or we do not see its socket."""
        return read_identity(self._path) is None

    def ask_soon(self) -> None:
        """Something was allocated."""
        self._wanted.set()

    async def watch(self) -> None:
        """Ask for ever."""
        try:
            while True:
                self._wanted.clear()
                await self.ask()
                await self._pause()
        finally:
            await self._api.forget()

    async def _pause(self) -> None:
        await asyncio.sleep(SHORTEST_S)
        pause_s = CONTESTED_S if self._contested() else INTERVAL_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s - SHORTEST_S):
                await self._wanted.wait()

    async def ask(self) -> None:
        """One question; a kubelet that does not answer leaves everything as it was."""
        async with self._asking:
            try:
                await self._ask()
            except HoldersUnknownError as error:
                if str(error) != self._told:
                    log.info("ledger_waits", reason=str(error))
                self._told = str(error)
            else:
                self._told = ""

    async def _ask(self) -> None:
        asked_s, kubelet = time.monotonic(), read_identity(self._path)
        if kubelet is None:
            raise HoldersUnknownError(f"{self._path}: there is no such socket")
        if self._kubelet != kubelet:
            await self._api.forget()
        answer = await self._api.read_answer()
        if self._kubelet not in (None, kubelet):
            self._ledger.kubelet_restarted()
        self._kubelet = kubelet
        if read_identity(self._path) != kubelet:  # another kubelet may have answered
            return
        self._ledger.observe(answer, asked_s)
        await self._confirm_gone()
        self._observed(by_resource(answer.holdings))

    async def _confirm_gone(self) -> None:
        """Ask for the pods that were missing, where the kubelet serves such questions."""
        for namespace, pod in sorted(self._ledger.missing_pods())[: MOST_PODS * self._gets]:
            try:
                held: Sequence[Holding] = await self._api.read_pod(namespace, pod)
            except HoldersUnknownError as error:
                self._gets = "UNIMPLEMENTED" not in str(error)
                return
            if not held:
                self._ledger.pod_gone(namespace, pod)
