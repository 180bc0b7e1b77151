"""NVML in a child process: what it costs when the library crashes or hangs is that process.

The child ends with the daemon, however that ends, because its end of the control socket does.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import TypeVar

import msgspec
import structlog

from deviceplugin.errors import CallTimeoutError, DiscoveryError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor import DeviceProcess, HealthReport, Sample
from deviceplugin.vendors.nvidia.child.wire import (
    Answer,
    Ask,
    Asked,
    Channel,
    Ended,
    Failed,
    Happened,
    Measure,
    Question,
    Rediscover,
    Taken,
    TakeSnapshot,
    Values,
    Watch,
)
from deviceplugin.vendors.nvidia.events import PAUSE_S
from deviceplugin.vendors.nvidia.probes import GpuReadings
from deviceplugin.vendors.nvidia.session import Snapshot

log = structlog.get_logger()

SEE_S = 9.0  # the daemon gives up a discovery after 10 s, a probe after 5 s
SEE_MAX_S = 72.0  # twice as long after each failure: nvmlInit of many GPUs can take its time
ASK_S = 4.0
SILENCE_S = 10.0  # of a wait for events, which returns every second
PAUSE_MAX_S = 60.0
HUNG_S = 20.0  # a GPU that hung is asked again after this time, so that the others are asked too
END_S = 1.0
VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LD_PRELOAD")
MODULE = "deviceplugin.vendors.nvidia.child.__main__"

A = TypeVar("A", Taken, Asked, Values)


class LibraryProcess:
    """One child, from its start to its end; `why` is the reason for the end once it has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.why: str | None = None
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = _spawned(theirs, self._control)
        log.info("library_process_started", vendor="nvidia", pid=self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.why is None and self._process.poll() is None

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it: a process stuck in the kernel survives even SIGKILL."""
        return self._process.poll() is not None

    def ask(self, question: Question) -> Channel:
        """The channel on which `question` is answered; OSError where it is gone."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            with theirs:
                socket.send_fds(self._control, [b"?"], [theirs.fileno()])
            channel.send(question)
        except OSError:
            channel.close()
            raise
        return channel

    def end(self, reason: str | None = None) -> str:
        """End it and say why: `reason`, or what it died of by itself."""
        with self._lock:
            if self.why is None:
                self.why = self._end(reason)
                pid, why = self._process.pid, self.why
                log.warning("library_process_ended", vendor="nvidia", pid=pid, reason=why)
            return self.why

    def close(self) -> None:
        """End it without logging."""
        with self._lock:
            self.why = self.why or self._end("it was closed")

    def _end(self, reason: str | None) -> str:
        died = reason is None and _exited(self._process)
        self._control.close()
        if died:
            return _death(self._process.returncode)
        self._process.kill()
        _exited(self._process)
        return reason or "it gave no answer"


def _spawned(theirs: socket.socket, ours: socket.socket) -> "subprocess.Popen[bytes]":
    """The child with one end as its standard input; it inherits nothing else but the log and the
    few variables by which programs and libraries are found."""
    try:
        return subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-P", "-m", MODULE],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env={name: os.environ[name] for name in VARIABLES if name in os.environ},
            start_new_session=True,  # a terminal's ^C is the daemon's to act on
        )
    except OSError:
        ours.close()
        raise


def _exited(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _death(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}"
    try:
        return f"it died of {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"it died of signal {-status}"


class ProcessSession:
    """Fulfils Session with NVML in a child, which is started again after each end."""

    def __init__(
        self,
        host: Host,
        driver_root: str,
        clock: Callable[[], float] = time.monotonic,
        library_dirs: Sequence[str] = (),
    ) -> None:
        self._question = TakeSnapshot(str(host.root), driver_root, tuple(library_dirs))
        self._clock = clock
        self._process: LibraryProcess | None = None
        self._failures = 0
        self._not_before = 0.0
        self._hung: dict[DeviceID, float] = {}

    def snapshot(self) -> Snapshot:
        """Fulfils Session; starts the child where there is none.

        A crash that a new child does not repeat costs no device.
        """
        try:
            return self._snapshot()
        except DiscoveryError:
            if self._failures != 1:
                raise
        return self._snapshot()

    def _snapshot(self) -> Snapshot:
        process = self._started()
        limit_s = min(SEE_S * 2**self._failures, SEE_MAX_S)
        try:
            taken = _answer(process, self._question, Taken, limit_s)
        finally:
            if not process.alive:
                self._failures += 1
                self._not_before = self._clock() + _pause_s(self._failures)
        self._failures = 0
        return taken.snapshot

    def unchanged(self) -> bool:
        """Fulfils Session; every snapshot asks the child, which it shows to be alive."""
        return False

    def ask(self, device: Device) -> GpuReadings:
        """Fulfils Session; CallTimeoutError for a GPU that hangs, asked or not."""
        process = self._running()
        rest_s = self._hung.get(device.id, 0.0) - self._clock()
        if rest_s > 0:
            text = f"{device.id}: the library hung, it is asked again in {math.ceil(rest_s)} s"
            raise CallTimeoutError(text)
        try:
            answers = _answer(process, Ask(device), Asked, ASK_S).answers
        except CallTimeoutError:
            self._hung[device.id] = self._clock() + HUNG_S
            raise
        self._hung.pop(device.id, None)
        return answers

    def sample(self, devices: Sequence[Device]) -> Sample:
        """Fulfils Session; a GPU that hung is not asked."""
        if self._hung.get(devices[0].id, 0.0) > self._clock():
            raise CallTimeoutError(f"{devices[0].id}: the library hung")
        return _answer(self._running(), Measure(tuple(devices)), Values, ASK_S).sample

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """Fulfils Session."""
        return _answer(self._running(), Measure(tuple(devices), True), Values, ASK_S).processes

    def watch(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Fulfils Session; where the child ends, a discovery is due, which starts another."""
        process = self._running()
        try:
            with process.ask(Watch(tuple(devices))) as channel:
                _listen(channel, report, stop)
        except TimeoutError:
            process.end(f"the wait for events did not return within {SILENCE_S:g} s")
        except (OSError, EOFError, msgspec.MsgspecError):
            process.end()
        else:
            return
        report.rediscover()
        stop.wait(PAUSE_S)

    def close(self) -> None:
        """Fulfils Session."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _running(self) -> LibraryProcess:
        process = self._process
        if process is None or not process.alive:
            raise DiscoveryError("the process that has NVML loaded is not there")
        return process

    def _started(self) -> LibraryProcess:
        """The child, a new one where the last has ended and the pause is over."""
        last = self._process
        if last is not None:
            if last.alive:
                return last
            why = last.end()
            if not last.gone:
                raise DiscoveryError(f"NVML's process: {why}; it is stuck in the kernel")
            rest_s = self._not_before - self._clock()
            if rest_s > 0:
                raise DiscoveryError(f"NVML's process: {why}; next in {math.ceil(rest_s)} s")
        try:
            self._process = LibraryProcess()
        except OSError as error:
            raise DiscoveryError(f"NVML's process cannot be started: {error}") from error
        return self._process


def _pause_s(failures: int) -> float:
    """None after the first failure, then 5, 10, 20 … seconds.

    A second less, because looks come every five: the one at that time is to find it over.
    """
    return 0.0 if failures == 1 else min(2.5 * 2 ** (failures - 1), PAUSE_MAX_S) - 1


def _answer(process: LibraryProcess, question: Question, kind: type[A], limit_s: float) -> A:
    """The answer to a question; without one in time the child is ended."""
    try:
        with process.ask(question) as channel:
            answer = channel.receive(kind | Failed, limit_s)  # type: ignore[arg-type]  # a union
    except TimeoutError as error:
        why = process.end(f"it did not answer within {limit_s:g} s")
        raise CallTimeoutError(f"NVML's process: {why}") from error
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise DiscoveryError(f"NVML's process: {process.end()}") from error
    if isinstance(answer, Failed):
        raise answer.error()
    return answer


def _listen(channel: Channel, report: HealthReport, stop: Event) -> None:
    while not stop.is_set():
        message: Answer = channel.receive(Answer, SILENCE_S)  # type: ignore[arg-type]  # a union
        if isinstance(message, Happened):
            report.event(message.fault)
        elif isinstance(message, Rediscover):
            report.rediscover()
        elif isinstance(message, Failed):
            raise message.error()
        elif isinstance(message, Ended):
            return
