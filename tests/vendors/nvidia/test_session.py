"""One NVML session that several threads use at once: opened once, closed once, never half."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.errors import DiscoveryError, LibraryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendors.nvidia.library import Nvml
from deviceplugin.vendors.nvidia.session import NvmlSession

GPU = Device(id=DeviceID("GPU-1"), vendor="nvidia")
OTHERS_S = 0.3  # how long a call waits for another thread that must not come
WAIT_S = 30


class NvmlError(Exception):
    """Of the library below."""

    value = 999


class Library:
    """An NVML that answers nothing but how often it was opened and closed.

    Opening and closing wait for a second thread to be inside too, which is what must not be.
    """

    NVMLError = NvmlError

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.together = False
        self._inside = 0
        self._second = threading.Event()

    def open(self, _: Host, __: str) -> Nvml:
        self.calls.append("open")
        self._alone()
        return Nvml(self, "/")

    def nvmlShutdown(self) -> None:  # noqa: N802  # NVML's name
        self.calls.append("close")
        self._alone()

    def __getattr__(self, name: str) -> Any:  # any other function of the library
        def fail(*_: Any) -> None:
            raise NvmlError(name)

        return fail

    def _alone(self) -> None:
        self._inside += 1
        if self._inside > 1:
            self.together = True
            self._second.set()
        self._second.wait(OTHERS_S)
        self._inside -= 1


def both(*functions: Callable[[], object]) -> None:
    """Call the functions at the same time, each on a thread of its own; failures are expected."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        start.wait(WAIT_S)
        try:
            function()
        except (LibraryError, UnavailableError, DiscoveryError):
            return

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def session(library: Library, tmp_path: Path) -> NvmlSession:
    return NvmlSession(Host(tmp_path), "/", library.open)


def watch(session: NvmlSession) -> None:
    """As the health thread does; the library has no events."""
    session.watch([GPU], None, threading.Event())  # type: ignore[arg-type]  # never reported to


def test_two_threads_that_need_the_library_open_it_once(
    library: Library, session: NvmlSession
) -> None:
    both(lambda: watch(session), lambda: watch(session))
    assert library.calls == ["open"]
    assert not library.together


def test_two_threads_that_close_the_library_close_it_once(
    library: Library, session: NvmlSession
) -> None:
    both(lambda: watch(session))
    both(session.close, session.close)
    assert library.calls == ["open", "close"]
    assert not library.together


def test_a_session_that_failed_does_not_close_the_one_opened_after_it(
    library: Library, session: NvmlSession
) -> None:
    with pytest.raises(LibraryError):
        session.snapshot()  # fails, closes, opens another and fails again
    assert library.calls == ["open", "close", "open"]
    with pytest.raises(LibraryError):
        session.ask(GPU)  # the library that is open now was asked
    session.close()
    with pytest.raises(DiscoveryError, match="no NVML session"):
        session.ask(GPU)
    assert library.calls.count("close") == 2
