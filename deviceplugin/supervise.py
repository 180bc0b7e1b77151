"""Guarded work: the one place that catches every exception, tells it and goes on."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from deviceplugin.errors import CallTimeoutError, DevicePluginError, VendorError

log = structlog.get_logger()
T = TypeVar("T")
P = ParamSpec("P")


async def keep(
    name: str,
    once: Callable[[], Awaitable[None]],
    pause_s: float,
    failed: Callable[[str], None] = lambda name: None,
) -> None:
    """Run `once` for ever, `pause_s` seconds apart; a failure is logged, counted and outlived."""
    while True:
        try:
            await once()
        except DevicePluginError as error:
            failed(name)
            log.warning("task_failed", task=name, error=str(error), retry_s=pause_s)
        except Exception as error:
            failed(name)
            log.exception("task_failed", task=name, error=str(error), retry_s=pause_s)
        await asyncio.sleep(pause_s)


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
            text = f"{self.name}: no answer within {deadline_s:g} s"
            raise CallTimeoutError(text) from error

    def _submit(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                deliver = partial(_set, future, function())
            except BaseException as error:  # noqa: BLE001  # delivered; sys.exit() is no exit here
                deliver = partial(_fail, future, self._as_ours(error))
            _on_loop(loop, self._free.release)
            _on_loop(loop, deliver)

        self._work_on(run)
        return future

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


def guarded(name: str, function: Callable[P, T], instead: Callable[P, T]) -> Callable[P, T]:
    """`function`, or `instead` where it raises; told the first time, as it may be called often."""
    told = False

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal told
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not told:
                log.exception("plugin_function_failed", function=name, error=str(error))
            told = True
            return instead(*args, **kwargs)

    return call


def start_guarded(name: str, function: Callable[[], None]) -> threading.Thread:
    """Run `function` to its end on a daemon thread of its own; a failure is logged."""

    def run() -> None:
        try:
            function()
        except DevicePluginError as error:
            log.warning("thread_failed", thread=name, error=str(error))
        except BaseException as error:  # sys.exit() in a plug-in is a failure too
            log.exception("thread_failed", thread=name, error=repr(error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _set(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)
