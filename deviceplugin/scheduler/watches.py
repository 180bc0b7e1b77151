"""All watches of the extender: started, stopped, and what is told of them."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from deviceplugin.kubernetes.api import Api
from deviceplugin.runtime.guard import start_guarded
from deviceplugin.scheduler.kinds import Watched
from deviceplugin.scheduler.watch import QUIET_S, Changed, Kind, Watch


class Watches:
    """One thread each; what they see is told on the loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._all = now, list[Watch]()

    def __iter__(self) -> Iterator[Watch]:
        return iter(self._all)

    def start(self, api: Api, watched: Iterable[tuple[Watched, Changed]]) -> None:
        """On the loop that runs."""
        loop = asyncio.get_running_loop()
        for what, changed in watched:
            watch = Watch(api, what, partial(_on_loop, loop, changed), self._now)
            self._all.append(watch)
            start_guarded("scheduler-watch", watch.run)

    def stop(self) -> None:
        """They end once they hear something."""
        for watch in self._all:
            watch.stop.set()

    def told(self) -> str:
        """A line for each that is silent, or fails; a kind that the cluster is without is none."""
        return "".join(
            f"{watch.what.name}: nothing heard for {age:.0f} s"
            f"{f': {watch.failure}' if watch.failure else ''}\n"
            for watch in self._all
            if (age := watch.age_s) is not None and (watch.failure or age > QUIET_S)
        )


def _on_loop(
    loop: asyncio.AbstractEventLoop, changed: Changed, kind: Kind, objects: Sequence[Any]
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed, kind, objects)
