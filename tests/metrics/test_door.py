"""Who gets which page: TLS, tokens, and what is told without them."""

import http.client
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from deviceplugin.daemon.door import check_files, door_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.kubernetes.api import Api
from deviceplugin.kubernetes.review import review
from deviceplugin.metrics.access import (
    EVERY_S,
    GOOD_S,
    MAX_KNOWN,
    NO_TOKEN,
    NOT_ALLOWED,
    NOT_ASKED,
    STALE_S,
    TOO_MANY,
    UNKNOWN,
    Reviewed,
    TokenFile,
    either,
)
from deviceplugin.metrics.door import Access, Door, LockedDoor, Request, token_of
from deviceplugin.metrics.http import HttpServer, application, pages_of
from deviceplugin.metrics.registry import Registry
from deviceplugin.metrics.section import MetricsSection, shows_pods
from deviceplugin.metrics.tls import Tls
from deviceplugin.runtime.part import Response
from tests.kubernetes.stub import ACCOUNT, api_stub
from tests.rig import WAIT_S

FIRST = (ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
OTHER = tuple(Path(__file__).parent / "certificates" / name for name in ("other.crt", "other.pem"))
TOKEN, SECOND = "t" * 16, "u" * 20
REASON = "nvidia.com/gpu waits"


@dataclass
class Files:
    """A certificate, its key and tokens in a folder, as a Secret would be mounted."""

    folder: Path

    def __post_init__(self) -> None:
        self.use(FIRST)
        self.tokens(TOKEN)

    @property
    def section(self) -> MetricsSection:
        return MetricsSection(
            certificate_file=str(self.folder / "tls.crt"), key_file=str(self.folder / "tls.key")
        )

    @property
    def with_tokens(self) -> MetricsSection:
        return msgspec.structs.replace(self.section, token_file=str(self.folder / "tokens"))

    def use(self, pair: Sequence[Path]) -> None:
        for source, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
            shutil.copy(source, self.folder / f".{name}")
            (self.folder / f".{name}").replace(self.folder / name)

    def tokens(self, *tokens: str) -> None:
        (self.folder / ".tokens").write_text("\n".join(tokens))
        (self.folder / ".tokens").replace(self.folder / "tokens")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextmanager
def serving(door: Door, ready: str = "") -> Iterator[int]:
    app = application(pages_of(Registry(), lambda: True, lambda: ready))
    server = HttpServer(app, ("127.0.0.1", 0), door)
    yield server.port
    server.close()


def get(port: int, path: str, token: str = "", ca: Path | None = FIRST[0]) -> tuple[int, str]:
    """A page over TLS that trusts `ca` alone, or in clear without one."""
    connection: http.client.HTTPConnection
    if ca is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    else:
        context = ssl.create_default_context(cafile=str(ca))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=WAIT_S, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_with_a_certificate_metrics_are_given_over_tls_alone(files: Files) -> None:
    with serving(door_of(files.section)) as port:
        assert get(port, "/metrics")[0] == 200
        assert get(port, "/metrics", ca=None) == (403, "this page is given over https alone\n")


@pytest.mark.parametrize("ca", [FIRST[0], None], ids=["tls", "clear"])
def test_probes_are_answered_without_tls_and_without_a_token(files: Files, ca: Path | None) -> None:
    with serving(door_of(files.with_tokens)) as port:
        assert get(port, "/healthz", ca=ca) == (200, "ok\n")
        assert get(port, "/readyz", ca=ca) == (200, "ok\n")


def test_why_the_daemon_is_not_ready_is_for_readers_alone(files: Files) -> None:
    with serving(door_of(files.with_tokens), REASON) as port:
        for asked in (get(port, "/readyz", ca=None), get(port, "/readyz", "wrong" * 4)):
            assert asked[0] == 503
            assert REASON not in asked[1]
        assert get(port, "/readyz", TOKEN) == (503, f"{REASON}\n")
    with serving(door_of(files.section), REASON) as port:
        assert REASON in get(port, "/readyz")[1]
        assert REASON not in get(port, "/readyz", ca=None)[1]


def test_a_token_of_the_file_is_needed_where_there_is_one(files: Files) -> None:
    with serving(door_of(files.with_tokens)) as port:
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", "wrong" * 4)[0] == 403
        assert get(port, "/metrics", TOKEN)[0] == 200
        assert get(port, "/metrics", TOKEN, ca=None)[0] == 403


def test_tokens_are_read_again_when_the_file_changes(files: Files) -> None:
    access = TokenFile(str(files.folder / "tokens"))
    ask = partial(Request, "/metrics", peer="p")
    assert access(ask(TOKEN)) is None
    files.tokens(SECOND, TOKEN)
    assert access(ask(SECOND)) is None
    files.tokens(SECOND)
    assert access(ask(TOKEN)) == NOT_ALLOWED


@pytest.mark.parametrize("tokens", [[], ["short"], [f"{TOKEN}{i}" for i in range(17)]])
def test_a_bad_file_of_tokens_keeps_the_old_ones_with_one_line(
    files: Files, tokens: list[str]
) -> None:
    access = TokenFile(str(files.folder / "tokens"))
    request = Request("/metrics", TOKEN, "p")
    assert access(request) is None
    with capture_logs() as logs:
        files.tokens(*tokens)
        assert [access(request) for _ in range(3)] == [None] * 3
    assert [(line["event"], line["what"]) for line in logs] == [("metrics_file_refused", "tokens")]


def test_without_a_file_of_tokens_nobody_is_known(tmp_path: Path) -> None:
    access = TokenFile(str(tmp_path / "absent"))
    assert access(Request("/metrics", TOKEN, "p")) == NOT_ALLOWED
    assert access(Request("/metrics", "", "p")) == NO_TOKEN


def test_a_changed_certificate_is_served_at_the_next_connection(files: Files) -> None:
    with serving(door_of(files.section)) as port:
        assert get(port, "/metrics")[0] == 200
        files.use(OTHER)
        assert get(port, "/metrics", ca=OTHER[0])[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get(port, "/metrics")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "tls.crt").write_text("no certificate"),
        lambda folder: shutil.copy(OTHER[1], folder / "tls.key"),
        lambda folder: (folder / "tls.key").unlink(),
        lambda folder: pipe(folder / "tls.key"),
        lambda folder: (folder / "tls.crt").write_bytes(b"x" * (1 << 20)),
    ],
    ids=["no PEM", "another key", "gone", "a pipe", "too large"],
)
def test_a_bad_certificate_keeps_the_old_one_with_one_line(files: Files, spoil: object) -> None:
    assert callable(spoil)
    with serving(door_of(files.section)) as port, capture_logs() as logs:
        assert get(port, "/metrics")[0] == 200
        spoil(files.folder)
        assert [get(port, "/metrics")[0] for _ in range(3)] == [200] * 3
    told = [line for line in logs if line["event"] == "metrics_file_refused"]
    assert [line["what"] for line in told] == ["certificate"]
    assert "tls.crt" in told[0]["reason"]


def test_without_a_certificate_nothing_is_served_in_clear_instead(files: Files) -> None:
    (files.folder / "tls.key").unlink()
    with pytest.raises(DevicePluginError, match=r"tls\.key: No such file"):
        door_of(files.section)


def test_a_reload_that_names_a_file_that_is_not_there_is_refused(files: Files) -> None:
    check_files(files.with_tokens)
    (files.folder / "tokens").unlink()
    with pytest.raises(ConfigError, match=r"metrics\.token_file: '.*tokens' is not valid"):
        check_files(files.with_tokens)


def test_a_peer_that_begins_tls_and_says_no_more_costs_others_nothing(files: Files) -> None:
    with serving(door_of(files.section)) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for peer in silent:
            peer.sendall(b"\x16\x03\x01")
        assert get(port, "/metrics")[0] == 200
        for peer in silent:
            peer.close()


@pytest.mark.parametrize(
    ("head", "token"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n", "abc"),
        (b"GET / HTTP/1.1\r\nauthorization:bearer  abc \r\n\r\n", "abc"),
        (b"GET / HTTP/1.1\r\nAuthorization: Basic abc\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nX-Authorization: Bearer abc\r\n\r\n", ""),
        (b"GET /?Authorization:%20Bearer%20abc HTTP/1.1\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\n\r\n", ""),
    ],
)
def test_the_token_is_that_of_the_header(head: bytes, token: str) -> None:
    assert token_of(head) == token


@dataclass
class Reviewer:
    """A clock and answers; `asked` are the tokens that cost a question."""

    good: set[str] = field(default_factory=lambda: {TOKEN})
    at: float = 1000.0
    down: bool = False
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.access = Reviewed(self._review, lambda: self.at)

    def _review(self, token: str, path: str) -> bool:
        self.asked.append(token)
        if self.down:
            raise DevicePluginError("down")
        return token in self.good

    def ask(self, token: str, peer: str = "10.0.0.1") -> Response | None:
        return self.access(Request("/metrics", token, peer))


def test_an_answer_counts_for_a_while_and_then_is_asked_for_again() -> None:
    reviewer = Reviewer()
    assert [reviewer.ask(TOKEN) for _ in range(3)] == [None] * 3
    assert reviewer.asked == [TOKEN]
    reviewer.at += GOOD_S
    reviewer.good.clear()
    assert reviewer.ask(TOKEN) == NOT_ALLOWED
    assert reviewer.asked == [TOKEN] * 2


def test_unknown_tokens_of_one_address_cost_the_api_server_two_questions_a_second() -> None:
    reviewer = Reviewer()
    answers = []
    for number in range(1000):
        reviewer.at += EVERY_S / 100
        answers.append(reviewer.ask(f"guess {number}"))
    assert len(reviewer.asked) <= 11
    assert answers.count(TOO_MANY) == 1000 - len(reviewer.asked)
    assert reviewer.ask(TOKEN, "10.0.0.2") is None


def test_strangers_keep_no_known_reader_out() -> None:
    reviewer = Reviewer()
    assert reviewer.ask(TOKEN) is None
    for number in range(4 * MAX_KNOWN):
        reviewer.ask(f"guess {number}", f"10.1.{number // 256}.{number % 256}")
    reviewer.at += GOOD_S
    assert reviewer.ask(TOKEN) is None  # although this address has just asked
    reviewer.ask("guess")
    assert len(reviewer.access._known) <= MAX_KNOWN
    assert len(reviewer.access._asked) <= MAX_KNOWN


def test_an_api_server_that_hangs_holds_two_requests_and_no_more() -> None:
    gate, inside = threading.Event(), threading.Semaphore(0)

    def hang(token: str, path: str) -> bool:
        inside.release()
        return gate.wait(WAIT_S)

    access = Reviewed(hang)
    requests = [Request("/metrics", TOKEN, f"10.0.0.{number}") for number in range(UNKNOWN)]
    threads = [threading.Thread(target=access, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
        assert inside.acquire(timeout=WAIT_S)
    assert access(Request("/metrics", SECOND, "10.0.1.1")) == TOO_MANY
    gate.set()
    for thread in threads:
        thread.join()
    assert access(Request("/metrics", SECOND, "10.0.1.2")) is None


def test_a_known_reader_is_served_while_the_api_server_is_away_for_a_while() -> None:
    reviewer = Reviewer()
    assert reviewer.ask(TOKEN) is None
    reviewer.down = True
    with capture_logs() as logs:
        reviewer.at += GOOD_S
        assert [reviewer.ask(TOKEN) for _ in range(3)] == [None] * 3
        assert reviewer.ask("guess", "10.0.0.9") == NOT_ASKED
        reviewer.at += STALE_S
        assert reviewer.ask(TOKEN) == NOT_ASKED
    assert [line["event"] for line in logs] == ["token_not_reviewed"]


def test_the_api_server_says_whose_token_it_is_and_what_that_one_may_read() -> None:
    with api_stub() as stub:
        stub.accounts |= {"prometheus": "system:serviceaccount:monitoring:k8s", "pod": "some"}
        stub.readers["system:serviceaccount:monitoring:k8s"] = "/metrics"
        ask = partial(review, Api(stub.access))
        assert ask("prometheus", "/metrics")
        assert not ask("prometheus", "/else")
        assert not ask("pod", "/metrics"), "every pod has a token"
        assert not ask("unknown", "/metrics")
        assert len(stub.requests) == 7


def test_a_reviewed_token_opens_the_door_and_no_other(files: Files) -> None:
    with api_stub() as stub:
        stub.accounts["prometheus"] = "k8s"
        stub.readers["k8s"] = "/metrics"
        tls = Tls(str(files.folder / "tls.crt"), str(files.folder / "tls.key"))
        reviewed = Reviewed(partial(review, Api(stub.access)))
        ways: list[Access] = [TokenFile(str(files.folder / "tokens")), reviewed]
        with serving(LockedDoor(tls.wrap, either(ways))) as port:
            assert get(port, "/metrics", "prometheus")[0] == 200
            assert get(port, "/metrics", TOKEN)[0] == 200
            assert get(port, "/metrics", "guess")[0] in (403, 429)


def test_without_an_api_server_the_tokens_of_the_file_are_still_good(files: Files) -> None:
    assert "KUBERNETES_SERVICE_HOST" not in os.environ
    section = msgspec.structs.replace(files.with_tokens, token_review=True)
    with serving(door_of(section)) as port, capture_logs() as logs:
        assert get(port, "/metrics", TOKEN)[0] == 200
        assert get(port, "/metrics", SECOND)[0] == 503
    (line,) = [line for line in logs if line["event"] == "token_not_reviewed"]
    assert "no API server is known" in line["reason"]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"certificate_file": "/a"}, "set together"),
        ({"certificate_file": "a", "key_file": "/b"}, "certificate_file: an absolute path"),
        ({"certificate_file": "/a", "key_file": "/b/../c"}, "key_file: an absolute path"),
        ({"token_file": "/a"}, "without TLS"),
        ({"token_review": True}, "without TLS"),
    ],
)
def test_what_would_protect_nothing_is_refused(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert(keys, MetricsSection)


TLS = {"certificate_file": "/a", "key_file": "/b"}


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, False),
        ({"pods": True}, True),
        (TLS, False),
        (TLS | {"token_file": "/c"}, True),
        (TLS | {"token_review": True}, True),
        (TLS | {"token_review": True, "pods": False}, False),
    ],
)
def test_pods_are_named_where_asked_for_or_to_known_readers(
    keys: dict[str, object], shown: bool
) -> None:
    assert shows_pods({"metrics": msgspec.convert(keys, MetricsSection)}) is shown
