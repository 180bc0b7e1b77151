"""Who may read the pages: whoever shows a token of a file, or one that a reviewer admits."""

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.files.reading import read_regular
from deviceplugin.metrics.door import PLAIN, Access, Request
from deviceplugin.metrics.reread import MAX_BYTES, Reread
from deviceplugin.runtime.part import Response

log = structlog.get_logger()

MIN_TOKEN, MAX_TOKENS = 16, 16
NO_TOKEN = Response("401 Unauthorized", PLAIN, "a bearer token is needed\n")
NOT_ALLOWED = Response("403 Forbidden", PLAIN, "this token may not read this page\n")
TOO_MANY = Response("429 Too Many Requests", PLAIN, "too many unknown tokens, try again later\n")
NOT_ASKED = Response("503 Service Unavailable", PLAIN, "the API server does not answer\n")

GOOD_S, BAD_S = 60.0, 10.0  # how long an answer counts
STALE_S = 600.0  # a good one counts for so long where the API server does not answer
MAX_KNOWN = 256
EVERY_S = 0.5  # one unknown token of an address in this time
UNKNOWN = 2  # asked about at a time: an API server that hangs must not take all threads of pages

_Key = tuple[bytes, str]  # of a token the hash, and a path
# Whether the owner of a token may read a path; raises DevicePluginError where nobody can say.
Review = Callable[[str, str], bool]


class TokenFile:
    """The tokens of a file, one a line; read again when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tokens = Reread("tokens", (path,), self._read)

    def __call__(self, request: Request) -> Response | None:
        """Admitted is one of them; the time that this takes tells nothing about them."""
        if not request.token:
            return NO_TOKEN
        try:
            tokens = self._tokens.value()
        except DevicePluginError:
            return NOT_ALLOWED  # nobody is known
        given = request.token.encode("latin-1", "replace")
        return None if sum(hmac.compare_digest(given, one) for one in tokens) else NOT_ALLOWED

    def _read(self) -> Sequence[bytes]:
        lines = [line.strip() for line in read_regular(self._path, MAX_BYTES).splitlines()]
        tokens = [line for line in lines if line]
        if not tokens or len(tokens) > MAX_TOKENS or min(map(len, tokens)) < MIN_TOKEN:
            raise ValueError(f"1 to {MAX_TOKENS} lines, each a token of {MIN_TOKEN} bytes or more")
        return tokens


class Reviewed:
    """Asks `review`, and remembers its answers.

    An unknown token costs the API server a question, so each address has one in EVERY_S; a token
    that was good is asked about again without a limit, so that strangers keep no reader out.
    """

    def __init__(self, review: Review, now: Callable[[], float] = time.monotonic) -> None:
        self._review, self._now = review, now
        self._lock, self._places = threading.Lock(), threading.Semaphore(UNKNOWN)
        self._known: OrderedDict[_Key, tuple[bool, float]] = OrderedDict()
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._problem = ""

    def __call__(self, request: Request) -> Response | None:
        """What the reviewer says, now or a little while ago."""
        if not request.token:
            return NO_TOKEN
        key = (hashlib.sha256(request.token.encode("latin-1", "replace")).digest(), request.path)
        with self._lock:
            good, at = self._known.get(key, (False, float("-inf")))
            age = self._now() - at
            if age < (GOOD_S if good else BAD_S):
                return None if good else NOT_ALLOWED
            if not good and not self._may_ask(request.peer):
                return TOO_MANY
        if good:
            return self._ask(request, key, age)
        if not self._places.acquire(blocking=False):
            return TOO_MANY
        try:
            return self._ask(request, key, float("inf"))
        finally:
            self._places.release()

    def _ask(self, request: Request, key: _Key, good_s: float) -> Response | None:
        """The API server's answer; without one, whether the reader was good `good_s` ago."""
        try:
            good = self._review(request.token, request.path)
        except DevicePluginError as error:
            self._tell(str(error))
            return None if good_s < STALE_S else NOT_ASKED
        self._tell("")
        self._remember(key, good=good)
        return None if good else NOT_ALLOWED

    def _may_ask(self, peer: str) -> bool:
        now = self._now()
        if now < self._asked.get(peer, float("-inf")) + EVERY_S:
            return False
        self._asked[peer] = now
        self._asked.move_to_end(peer)
        if len(self._asked) > MAX_KNOWN:
            self._asked.popitem(last=False)
        return True

    def _remember(self, key: _Key, *, good: bool) -> None:
        """Bad ones are forgotten first: strangers make as many of them as they like."""
        with self._lock:
            self._known[key] = (good, self._now())
            self._known.move_to_end(key, last=good)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("token_not_reviewed", reason=problem)
        self._problem = problem


def either(ways: Sequence[Access]) -> Access:
    """Whoever one of `ways` admits; the refusal is that of the last."""

    def access(request: Request) -> Response | None:
        refusal: Response | None = NO_TOKEN
        for way in ways:
            refusal = way(request)
            if refusal is None:
                break
        return refusal

    return access
