"""Who gets which page of a daemon that listens on loopback."""

import socket
from contextlib import closing

import pytest

from deviceplugin.daemon.door import door_of
from deviceplugin.metrics.door import Door, LockedDoor
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.metrics.local import LocalDoor, asks_for_local
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.runtime.part import Response

PAGES = ("/", "/metrics", "/healthz", "/readyz", "/status")
APP = application({path: lambda: Response("200 OK", "text/plain", "page") for path in PAGES})
EVIL = "attacker.example:9440"


def status(door: Door, path: str, host: str | None) -> int:
    """The status of one request over a real socket; without a `host` it is HTTP/1.0."""
    server = HttpServer(APP, ("127.0.0.1", 0), door)
    head = f"GET {path} HTTP/1.0" if host is None else f"GET {path} HTTP/1.1\r\nHost: {host}"
    with closing(server), socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(f"{head}\r\n\r\n".encode())
        return int(peer.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("path", ["/", "/status"])
def test_another_sites_name_gets_no_page(path: str) -> None:
    assert status(LocalDoor(), path, EVIL) == 421
    assert status(LocalDoor(), path, "localhost:9440") == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_for_everybody(path: str) -> None:
    assert status(LocalDoor(), path, "node-1") == 200


@pytest.mark.parametrize(("pods", "expected"), [(None, 200), (False, 200), (True, 421)])
def test_metrics_are_for_everybody_while_they_name_no_pods(
    pods: bool | None,  # a column
    expected: int,
) -> None:
    door = door_of(MetricsSection(pods=pods), ("127.0.0.1", 9440))
    assert status(door, "/metrics", EVIL) == expected


@pytest.mark.parametrize(
    ("host", "local"),
    [
        (None, True),
        ("localhost", True),
        ("LOCALHOST.:9440", True),
        ("127.0.0.1:9440", True),
        ("127.1.2.3", True),
        ("[::1]:9440", True),
        (EVIL, False),
        ("localhost.attacker.example", False),
        ("127.0.0.1.attacker.example", False),
        ("10.0.0.1", False),
        ("", False),
        ("localhost\r\nHost: attacker.example", False),
    ],
)
def test_names_of_this_machine(host: str | None, *, local: bool) -> None:
    lines = ["GET / HTTP/1.1", *([f"Host: {host}"] if host is not None else []), "", ""]
    assert asks_for_local("\r\n".join(lines).encode()) is local


def test_an_address_that_others_reach_is_asked_for_by_any_name() -> None:
    assert not isinstance(door_of(MetricsSection(), ("0.0.0.0", 9440)), LocalDoor | LockedDoor)
    assert isinstance(door_of(MetricsSection(), ("::1", 9440)), LocalDoor)
