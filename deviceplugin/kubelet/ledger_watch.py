"""The ledger's source of usage: asks the kubelet what pods hold, soon after each Allocate, else
now and then, never twice a second.

And never while it allocates: a List makes it take its pods' devices for all that are in use
(devicemanager, UpdateAllocatedDevices). What it is about to give is not among them until Allocate
has returned, and it would give that once more.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.socket import SocketIdentity, read_identity
from deviceplugin.resources.ledger import (
    SETTLED_S,
    HoldersUnknownError,
    Holding,
    Ledger,
)

log = structlog.get_logger()

SHORTEST_S = 1.0
CONTESTED_S = 2.0
INTERVAL_S = 10.0  # nobody waits for an answer: for metrics and placement only
PATIENCE_S = 3.0  # pods may come without a break
BREAK_S = 0.1  # and the kubelet notes an answer of ours within milliseconds
LOOK_S = 0.05
MOST_PODS = 8  # confirmed at once: each is a question more


def settling_s(busy: bool, quiet_s: float, waited_s: float) -> float:
    """Seconds until the kubelet may be asked, or to the next look; 0 for now.

    `busy` says whether an Allocate runs (5 s at most), `quiet_s` how long ago the last one ended,
    `waited_s` how long somebody has waited for a quiet moment.
    """
    if busy:
        return LOOK_S
    wanted_s = SETTLED_S if waited_s < PATIENCE_S else BREAK_S
    return max(0.0, min(wanted_s - quiet_s, LOOK_S))


class LedgerWatch:
    """Keeps `ledger` true to the PodResources API at `socket_path`.

    `observed` is called after each reply that the ledger has taken; `contested` says whether
    somebody waits for a release; `asked` is set once the kubelet was asked, whether it answered
    or not.
    """

    def __init__(
        self,
        ledger: Ledger,
        socket_path: Path,
        observed: Callable[[], None],
        contested: Callable[[], bool],
    ) -> None:
        self._ledger, self._path = ledger, socket_path
        self._observed, self._contested = observed, contested
        self._kubelet: SocketIdentity | None = None
        self._api = PodResources(socket_path)
        self.asked = asyncio.Event()
        self._wanted = asyncio.Event()
        self._allocating = 0
        self._allocated_s = -SETTLED_S
        self._asking = asyncio.Lock()
        self._gets = True
        self._told = ""
        self._handing_out = Allocating(self)

    @property
    def absent(self) -> bool:
        """Whether this kubelet has no PodResources API, or we do not see its socket."""
        return read_identity(self._path) is None

    def allocating(self) -> "Allocating":
        """An Allocate is being answered; the kubelet is asked when that has settled."""
        return self._handing_out

    def begin(self) -> None:
        """An Allocate begins."""
        self._allocating += 1

    def end(self) -> None:
        """An Allocate has its answer."""
        self._allocating -= 1
        self._allocated_s = time.monotonic()
        self._wanted.set()

    async def watch(self) -> None:
        """Ask for ever."""
        try:
            while True:
                self._wanted.clear()
                await self._settled()
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

    async def _settled(self) -> None:
        since_s = time.monotonic()
        while wait_s := self._settling_s(since_s):  # noqa: ASYNC110  # for time to pass
            await asyncio.sleep(wait_s)

    def _settling_s(self, since_s: float) -> float:
        now_s = time.monotonic()
        return settling_s(bool(self._allocating), now_s - self._allocated_s, now_s - since_s)

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
            finally:
                self.asked.set()

    async def _ask(self) -> None:
        asked_s, kubelet = time.monotonic(), read_identity(self._path)
        if kubelet is None:
            raise HoldersUnknownError(f"{self._path}: there is no such socket")
        if self._kubelet != kubelet:
            await self._api.forget()
        reply = await self._api.read_reply()
        if self._kubelet not in (None, kubelet):
            self._ledger.source_restarted()
        self._kubelet = kubelet
        if read_identity(self._path) != kubelet:  # another kubelet may have answered
            return
        self._ledger.observe(reply, asked_s)
        await self._confirm_gone()
        self._observed()

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


class Allocating(AbstractContextManager[None]):
    """Open while an Allocate is answered; the same one for all, since it keeps nothing."""

    def __init__(self, watch: LedgerWatch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        self._watch.begin()

    def __exit__(self, *_: object) -> None:
        self._watch.end()
