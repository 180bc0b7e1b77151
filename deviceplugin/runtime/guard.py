"""Plug-in functions whose failure is logged and costs nothing else."""

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from deviceplugin.errors import DevicePluginError, VendorError

log = structlog.get_logger()


FAILED = "plugin_function_failed"


T = TypeVar("T")


P = ParamSpec("P")


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


def plugin_function(name: str, function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which raises VendorError for whatever is not one of our errors."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except DevicePluginError:
            raise
        except Exception as error:
            log.exception("plugin_function_failed", function=name, error=str(error))
            raise VendorError(f"{name}: {type(error).__name__}: {error}") from error

    return call


def outcome_of(function: Callable[[], T]) -> T | Exception:
    """The result of `function`, or what it raised; whoever calls says what comes of that."""
    try:
        return function()
    except Exception as error:  # noqa: BLE001  # handed to the caller
        return error


def start_guarded(
    name: str, function: Callable[[], None], failed: Callable[[str], bool] = lambda _: False
) -> threading.Thread:
    """Run `function` to its end on a daemon thread of its own; a failure is logged.

    `failed` gets the error's text, on that thread, and says whether its traceback was logged
    before.
    """

    def run() -> None:
        try:
            function()
        except DevicePluginError as error:
            failed(repr(error))
            log.warning("thread_failed", thread=name, error=str(error))
        except BaseException as error:  # sys.exit() in a plug-in is a failure too
            if failed(repr(error)):
                log.warning("thread_failed", thread=name, error=repr(error))
            else:
                log.exception("thread_failed", thread=name, error=repr(error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
