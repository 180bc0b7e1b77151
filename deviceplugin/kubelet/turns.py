"""In which order resources register with a new kubelet: first those that pods hold.

A kubelet that has restarted kills pods whose resource it does not know yet (kubernetes#138446). On
a busy node each registration takes its time, and a resource that nobody holds can wait.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from deviceplugin.kubelet.socket import SocketIdentity
from deviceplugin.model import ResourceName
from deviceplugin.runtime.latest import Latest

TURN_S = 0.2  # a resource that does not come to register holds nobody up for longer


class Turns:
    """Who has registered with which kubelet; `held` has the resources that pods hold."""

    def __init__(self, held: Callable[[], Collection[ResourceName]]) -> None:
        self._held = held
        self._waiting: Latest[frozenset[ResourceName]] = Latest(frozenset())
        self._known: dict[ResourceName, SocketIdentity | None] = {}
        self._kubelet: SocketIdentity | None = None

    @contextmanager
    def serving(self, name: ResourceName) -> Iterator[None]:
        """The resource is served: it will register."""
        self._known[name] = None
        self._note()
        try:
            yield
        finally:
            del self._known[name]
            self._note()

    async def turn(self, name: ResourceName, identity: SocketIdentity | None) -> None:
        """Wait for the resources that pods hold to be registered with this kubelet, TURN_S at most;
        they themselves do not wait."""
        self._kubelet = identity
        self._note()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TURN_S):
                await self._waiting.until(lambda waiting: not waiting or name in waiting)

    def registered(self, name: ResourceName, identity: SocketIdentity | None) -> None:
        """The resource is registered with this kubelet."""
        self._known[name] = identity
        self._kubelet = identity
        self._note()

    def _note(self) -> None:
        held = self._held()
        late = {n for n, known in self._known.items() if n in held and known != self._kubelet}
        self._waiting.set(frozenset(late))
