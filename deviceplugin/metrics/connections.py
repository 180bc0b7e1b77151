"""Who is connected to the HTTP endpoint, and for how long; what is answered is not known here.

One thread waits for all peers: one that says nothing costs a descriptor, no thread, and no place
that another would need. Where places are short, the address that has most of them loses its
oldest, one that has not asked yet before one that waits for its answer.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from deviceplugin.metrics.peer import ANSWER_S, HEAD_S, MAX_HEAD_BYTES, Peer, Stage
from deviceplugin.runtime.guard import start_guarded

MAX_PEERS = 64
MAX_REQUESTS = 8  # answered at a time, each on a thread
RETRY_S = 1.0
MAX_UNREAD_BYTES = 64 * 1024
END = b"\r\n\r\n"
_BACKLOG = 256

# The bytes that come back for those of a head, which may be no whole one, on that connection.
Answer = Callable[[bytes, socket.socket], bytes]
# The connection to talk on, once a first byte may have come: a plain one, or one of TLS that does
# not block either. Raises OSError; BlockingIOError for one that is asked for again.
Enter = Callable[[socket.socket], socket.socket]


class Connections:
    """Gives every peer what `answer` makes of its head, until `close`.

    Raises OSError if it cannot bind.
    """

    def __init__(
        self, answer: Answer, address: tuple[str, int], enter: Enter = lambda plain: plain
    ) -> None:
        self._answer, self._enter = answer, enter
        self._peers: dict[int, Peer] = {}
        self._asked: deque[Peer] = deque()
        self._answered: deque[tuple[Peer, bytes]] = deque()
        self._working = 0
        self._closing = threading.Event()
        self._listener = _listen(address)
        self.port: int = self._listener.getsockname()[1]
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        start_guarded("http", self._run)

    def close(self) -> None:
        """Accept no more; what is being answered is finished."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._stir()

    def _stir(self) -> None:
        """Wake the thread; a full buffer wakes it too, and a closed one has no thread any more."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    # On the thread

    def _run(self) -> None:
        with self._woken, self._wake, selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                self._round()
            selector.unregister(self._listener)
            self._end()

    def _end(self) -> None:
        """Finish what was asked; each peer has its deadline."""
        for peer in [peer for peer in self._peers.values() if peer.stage is Stage.HEAD]:
            self._drop(peer)
        while self._peers:
            self._round()

    def _round(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                _empty(self._woken)
            elif peer := self._peers.get(key.fd):  # else dropped in this round
                self._guarded(peer, self._go_on)
        while self._answered:
            self._working -= 1
            peer, data = self._answered.popleft()
            self._guarded(peer, partial(self._begin_answer, data=data))
        self._work()
        now = time.monotonic()
        for peer in [peer for peer in self._peers.values() if peer.deadline <= now]:
            self._drop(peer)

    def _wait_s(self) -> float | None:
        if not self._peers:
            return None
        return max(min(p.deadline for p in self._peers.values()) - time.monotonic(), 0.0)

    def _accept(self) -> None:
        """All who wait, and what they have sent: one that asks at once is never given up unread."""
        for _ in range(_BACKLOG):
            try:
                plain, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # it is gone again
                continue
            except OSError:  # closed, or no descriptor is to be had
                if not self._make_room():
                    self._closing.wait(RETRY_S)
                return
            if len(self._peers) >= MAX_PEERS:
                self._make_room()
            self._welcome(plain, str(address[0]))

    def _welcome(self, plain: socket.socket, address: str) -> None:
        plain.setblocking(False)
        peer = Peer(plain, address)
        self._peers[peer.number] = peer
        self._watch(peer, selectors.EVENT_READ)
        self._guarded(peer, self._read_head)

    def _make_room(self) -> bool:
        """Give a place up; False where there is none."""
        if not self._peers:
            return False
        peers = tuple(self._peers.values())
        ((most, _),) = Counter(peer.address for peer in peers).most_common(1)
        self._drop(min((p for p in peers if p.address == most), key=lambda peer: peer.stage))
        return True

    def _guarded(self, peer: Peer, step: Callable[[Peer], None]) -> None:
        """A peer that goes away is no event."""
        try:
            if self._is_here(peer):
                step(peer)
        except OSError:
            self._drop(peer)

    def _is_here(self, peer: Peer) -> bool:
        return self._peers.get(peer.number) is peer

    def _watch(self, peer: Peer, events: int) -> None:
        """Have `_go_on` called at these events, at none for 0."""
        if events == peer.watched:
            return
        if not events:
            self._selector.unregister(peer.connection)
        elif peer.watched:
            self._selector.modify(peer.connection, events)
        else:
            self._selector.register(peer.connection, events)
        peer.watched = events

    def _drop(self, peer: Peer) -> None:
        if self._is_here(peer):
            self._watch(peer, 0)
            del self._peers[peer.number]
            peer.connection.close()

    def _go_on(self, peer: Peer) -> None:
        if peer.stage is Stage.HEAD:
            self._read_head(peer)
        elif peer.stage is Stage.SENDING:
            self._send(peer)
        else:
            self._read_rest(peer)

    def _read_head(self, peer: Peer) -> None:
        if not peer.has_entered and not self._entered(peer):
            return
        for part in peer.received():
            peer.head += part
            if not peer.head:
                self._drop(peer)
            elif not part or END in peer.head or len(peer.head) >= MAX_HEAD_BYTES:
                peer.await_answer()
                self._watch(peer, 0)
                self._asked.append(peer)
                return

    def _entered(self, peer: Peer) -> bool:
        """Whether it has; not watched meanwhile, as TLS is another object for the same file."""
        self._watch(peer, 0)
        try:
            peer.connection = self._enter(peer.connection)
            peer.has_entered = True
        except BlockingIOError:
            pass
        self._watch(peer, selectors.EVENT_READ)
        return peer.has_entered

    def _work(self) -> None:
        while self._asked and self._working < MAX_REQUESTS:
            peer = self._asked.popleft()
            if not self._is_here(peer):
                continue
            try:
                start_guarded("http-request", partial(self._serve, peer))
                self._working += 1
            except RuntimeError:  # no thread is to be had
                self._drop(peer)

    def _begin_answer(self, peer: Peer, data: bytes) -> None:
        peer.stage, peer.rest = Stage.SENDING, memoryview(data)
        peer.deadline = time.monotonic() + ANSWER_S
        self._send(peer)

    def _send(self, peer: Peer) -> None:
        if not peer.send():
            self._watch(peer, selectors.EVENT_WRITE)
            return
        peer.connection.shutdown(socket.SHUT_WR)
        peer.stage, peer.deadline = Stage.UNREAD, time.monotonic() + HEAD_S
        self._watch(peer, selectors.EVENT_READ)
        self._read_rest(peer)

    def _read_rest(self, peer: Peer) -> None:
        for part in peer.received():
            peer.unread += len(part)
            if not part or peer.unread > MAX_UNREAD_BYTES:
                self._drop(peer)
                return

    # On a thread of its own

    def _serve(self, peer: Peer) -> None:
        data = b""
        try:
            data = self._answer(peer.head, peer.connection)
        finally:
            self._answered.append((peer, data))
            self._stir()


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _empty(woken: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while woken.recv(4096):
            pass
