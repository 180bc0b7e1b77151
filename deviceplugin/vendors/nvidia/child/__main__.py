"""The process that has NVML loaded, for as long as its standard input, a socket, is open.

`python -m deviceplugin.vendors.nvidia.child.__main__`, started by process_session.py. It reads no
configuration and no variable of ours; what NVML prints goes where the daemon's log goes.
"""

import os
import resource
import socket
import threading
from functools import partial
from pathlib import Path

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.confine import give_up_capabilities, limit, refuse_new_rights
from deviceplugin.model import Fault
from deviceplugin.vendors.nvidia.child.wire import (
    Answer,
    Ask,
    Asked,
    Beat,
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
)
from deviceplugin.vendors.nvidia.library import open_nvml
from deviceplugin.vendors.nvidia.session import NvmlSession

MEMORY_BYTES = 256 << 20  # private memory: a library that runs away ends itself, not the node
_STACK_BYTES = 1 << 20
_DESCRIPTORS = 1024  # NVML has several for each GPU, each question has one
_FILE_BYTES = 1 << 20  # nothing is written but the log, where that is a file


def main() -> None:
    """Answer each question on a thread of its own until the daemon is gone."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    limit(_DESCRIPTORS, _FILE_BYTES)  # a core at each restart would fill the disk
    refuse_new_rights()
    give_up_capabilities()
    threading.stack_size(_STACK_BYTES)
    server = _Server()
    with socket.socket(fileno=0) as control:
        while ends := socket.recv_fds(control, 1, 1)[1]:
            channel = Channel(socket.socket(fileno=ends[0]))
            threading.Thread(target=server.answer, args=(channel,), daemon=True).start()
    os._exit(0)  # not sys.exit(): a thread inside a hung library must not keep us


class _Server:
    def __init__(self) -> None:
        self._session: NvmlSession | None = None

    def answer(self, channel: Channel) -> None:
        with channel:
            question: Question = channel.receive(Question)  # type: ignore[arg-type]  # a union
            try:
                answer = self._answer(question, channel)
            except VendorError as error:
                answer = Failed.of(error)
            try:
                channel.send(answer)
            except OSError:  # nobody waits for it any more
                return

    def _answer(self, question: Question, channel: Channel) -> Answer:
        if isinstance(question, TakeSnapshot):
            self._session = self._session or NvmlSession(
                Host(Path(question.host_root)),
                question.driver_root,
                partial(open_nvml, library_dirs=question.library_dirs),
            )
            return Taken(self._session.snapshot())
        if self._session is None:
            raise VendorError("there is no NVML session")
        if isinstance(question, Ask):
            return Asked(self._session.ask(question.device))
        if isinstance(question, Measure):
            return _measured(self._session, question)
        listener = _Listener(channel)
        self._session.watch(question.devices, listener, listener.gone)
        return Ended()


def _measured(session: NvmlSession, question: Measure) -> Values:
    if question.processes:
        return Values(processes=tuple(session.processes(question.devices)))
    return Values(sample=session.sample(question.devices))


class _Listener:
    """Fulfils HealthReport towards the daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.gone = _Gone(self)

    def faults(self, source: str, faults: object) -> None:
        """NVIDIA has no sources that report whole sets."""
        raise NotImplementedError(source)

    def event(self, fault: Fault) -> None:
        self.tell(Happened(fault))

    def happened(self, fault: Fault) -> None:
        self.event(fault)

    def rediscover(self) -> None:
        self.tell(Rediscover())

    def tell(self, message: Answer) -> None:
        try:
            self._channel.send(message)
        except OSError:
            self.gone.set()


class _Gone(threading.Event):
    """Set when nobody listens any more; every question after it is a sign of life."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__()
        self._listener = listener

    def is_set(self) -> bool:
        self._listener.tell(Beat())
        return super().is_set()


if __name__ == "__main__":
    main()
