"""Guarded work: the one place that catches every exception, tells it and goes on."""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from deviceplugin.errors import CallTimeoutError, DevicePluginError, VendorError

log = structlog.get_logger()
T = TypeVar("T")


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
    """One daemon thread for one vendor's blocking calls, one after another.

    A call that hangs blocks this thread alone. It is a daemon thread because a call inside a
    hung driver can be ended by nothing, and must not keep the process from exiting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[], T], deadline_s: float) -> T:
        """The result of `function`, run on the thread.

        Raises CallTimeoutError at the deadline (seconds), VendorError for whatever else fails.
        """
        future = self._submit(function)
        try:
            return await asyncio.wait_for(future, deadline_s)
        except TimeoutError as error:
            text = f"{self.name}: no answer from the driver within {deadline_s:g} s"
            raise CallTimeoutError(text) from error

    def _submit(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                outcome: Callable[[], None] = _setter(future, function())
            except Exception as error:
                outcome = _failer(future, self._as_vendor_error(error))
            _on_loop(loop, outcome)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        self._calls.put(run)
        return future

    def _work(self) -> None:
        while True:
            self._calls.get()()

    def _as_vendor_error(self, error: Exception) -> DevicePluginError:
        if isinstance(error, DevicePluginError):
            return error
        log.error("vendor_raised", thread=self.name, exc_info=error)
        wrapped = VendorError(f"{self.name}: {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return wrapped


def start_guarded(name: str, function: Callable[[], None]) -> threading.Thread:
    """Run `function` to its end on a daemon thread of its own; a failure is logged."""

    def run() -> None:
        try:
            function()
        except DevicePluginError as error:
            log.warning("thread_failed", thread=name, error=str(error))
        except Exception as error:
            log.exception("thread_failed", thread=name, error=str(error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _setter(future: "asyncio.Future[T]", result: T) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_result(result)


def _failer(future: "asyncio.Future[Any]", error: Exception) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_exception(error)


def _on_loop(loop: asyncio.AbstractEventLoop, outcome: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(outcome)
