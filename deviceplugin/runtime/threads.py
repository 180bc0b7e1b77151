"""Blocking calls on a thread of their own, each with a deadline, and an end without them."""

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from deviceplugin.errors import CallTimeoutError, DevicePluginError, VendorError

log = structlog.get_logger()


T = TypeVar("T")


class DriverThread:
    """One daemon thread for one vendor's blocking calls, one at a time.

    A call that hangs blocks this thread alone, and calls behind it wait no longer than their own
    deadlines. It is a daemon thread because nothing can end a call inside a hung driver, and it
    must not keep the process from exiting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._free = asyncio.Semaphore(1)
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a call is still running, its caller's deadline over or not."""
        return self._free.locked()

    def close(self) -> None:
        """End the thread after the calls that were made; one made later has a thread of its own."""
        self._closed = True
        if self._thread is not None:
            self._thread = None
            self._calls.put(None)

    async def call(self, function: Callable[[], T], deadline_s: float) -> T:
        """The result of `function`, run on the thread.

        Raises CallTimeoutError at the deadline (seconds), VendorError for whatever else fails.
        """
        try:
            async with asyncio.timeout(deadline_s):
                await self._free.acquire()
                return await self._submit(function)
        except TimeoutError as error:
            raise self._too_slow(deadline_s) from error

    async def call_each(
        self, functions: Sequence[Callable[[], T]], deadline_s: float
    ) -> "list[T | DevicePluginError]":
        """The results of `functions`, run one after the other, an error in place of a result.

        The deadline is that of each. At the first that misses it the round ends: CallTimeoutError
        is in its place, and nothing behind it. One round wakes the loop once.
        """
        await self._free.acquire()
        running = _Round(functions, self._as_ours)
        future = self._submit(running.run)
        try:
            while not future.done():
                number, left_s = running.position(deadline_s)
                if left_s <= 0:
                    return [*running.results[:number], self._too_slow(deadline_s)]
                await asyncio.wait([future], timeout=left_s)
            return running.results
        finally:
            running.stopped = True

    def _too_slow(self, deadline_s: float) -> CallTimeoutError:
        return CallTimeoutError(f"{self.name}: no answer within {deadline_s:g} s")

    def _submit(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                deliver = partial(_set, future, function())
            except BaseException as error:  # noqa: BLE001  # delivered; sys.exit() is no exit here
                deliver = partial(_fail, future, self._as_ours(error))
            _on_loop(loop, partial(self._end_call, deliver))

        self._work_on(run)
        return future

    def _end_call(self, deliver: Callable[[], None]) -> None:
        self._free.release()
        deliver()

    def _work_on(self, run: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        self._calls.put(run)
        if self._closed:
            self.close()

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()

    def _as_ours(self, error: BaseException) -> DevicePluginError:
        if isinstance(error, DevicePluginError):
            return error
        log.error("vendor_raised", thread=self.name, exc_info=error)
        wrapped = VendorError(f"{self.name}: {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return wrapped


class _Round(Generic[T]):
    """Calls one after the other on a thread, while the loop looks how far they are."""

    def __init__(
        self,
        functions: Sequence[Callable[[], T]],
        as_ours: Callable[[BaseException], DevicePluginError],
    ) -> None:
        self.results: list[T | DevicePluginError] = []
        self.stopped = False
        self._functions, self._as_ours = functions, as_ours
        self._at = (0, time.monotonic())

    def position(self, deadline_s: float) -> tuple[int, float]:
        """The number of the call that runs, and how many seconds it has left."""
        number, since = self._at
        return number, since + deadline_s - time.monotonic()

    def run(self) -> None:
        """Make the calls, on the thread."""
        for number, function in enumerate(self._functions):
            if self.stopped:
                return
            self._at = (number, time.monotonic())
            try:
                self.results.append(function())
            except BaseException as error:  # noqa: BLE001  # in its place; sys.exit() is no exit
                self.results.append(self._as_ours(error))


def _set(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)


THREADS_S = 2.0  # for them to end; the kubelet kills 5 s after SIGTERM


def end_without_threads(status: int) -> None:
    """End the process in THREADS_S, if it has not ended by then: Python waits for every thread of
    its executors, even for one that a file or a driver holds up."""

    def end() -> None:
        log.warning("ended_without_threads", after_s=THREADS_S)
        os._exit(status)

    timer = threading.Timer(THREADS_S, end)
    timer.daemon = True
    timer.start()
