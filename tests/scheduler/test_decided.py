"""The command that asks every replica of the extender why a pod was sent where it was."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from deviceplugin.cli import decided
from deviceplugin.cli.scheduler import scheduler_commands
from deviceplugin.errors import ConfigError
from tests.kubernetes.stub import ACCOUNT

Document = dict[str, Any]
COST = {
    "gpus": [0],
    "partitions": [],
    "fragment_milli": 12.5,
    "waste_milli": 0.0,
    "stranded_milli": 0.0,
    "affinity_milli": 0.0,
    "balance_milli": 0.0,
    "added_watts": 0.0,
}
WHY: Document = {
    "pod": "ml/p",
    "demand": {
        "cpu_milli": 1000,
        "memory_mib": 512,
        "gpus": 1,
        "gpu_milli": 250,
        "models": ["A100", "H100"],
        "partitions": {"nvidia.com/mig-1g.10gb": 2},
    },
    "fitting": 3,
    "ordered_by": "rule",
    "best": [{"node": "a", "by": "facts", **COST}, {"node": "b", "by": "counts", **COST}],
    "lacking": "its GPUs are busier, hotter or have faults",
    "failed": [{"reason": "0 GPUs free, 1 requested", "nodes": 2}],
    "decided_at": "2026-11-27T08:00:00.000+00:00",
}
NONE = {**WHY, "best": [], "fitting": 0, "lacking": "", "decided_at": "2026-11-27T09:00:00+00:00"}


@contextmanager
def replica(pages: Mapping[str, Document], host: str = "127.0.0.1", *, tls: bool = False) -> Any:
    """Answers GET of these paths, and 404 for the others; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path.partition("?")[0])
            self.send_response(200 if found is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found or {"message": "none"}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ACCOUNT / "ca.crt", ACCOUNT / "key.pem")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(scheduler_commands, ["explain", *arguments])


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_the_latest_decision_of_all_replicas_is_shown(nobody: str) -> None:
    page = "/explain/ml/p"
    with replica({page: WHY}) as one, replica({page: NONE}) as other, replica({}) as third:
        asked = (f"--address={at}" for at in (one, other, third, nobody))
        ran = explain("ml/p", *asked, "-o", "json")
    assert ran.exit_code == 0, ran.output
    assert nobody in ran.stderr
    assert json.loads(ran.stdout) == {**NONE, "replica": other}


def test_it_is_told_to_people_in_words() -> None:
    text = decided.as_text({**WHY, "replica": "r"})
    assert text.splitlines()[:3] == [
        "ml/p asks for 2 nvidia.com/mig-1g.10gb, 1 GPU to 25 % of A100 or H100, 1000m CPU, 512 MiB",
        "a is the best of 3 nodes; decided at 2026-11-27T08:00:00.000+00:00 by r",
        "b is the next: its GPUs are busier, hotter or have faults",
    ]
    assert "0 GPUs free, 1 requested" in text
    assert "no node fits; decided at" in decided.as_text(NONE)


def test_replicas_that_serve_https_are_asked_with_their_authority() -> None:
    with replica({"/explain/ml/p": WHY}, tls=True) as at:
        ca = ("--ca-file", str(ACCOUNT / "ca.crt"))
        assert explain("ml/p", "--address", at, *ca).exit_code == 0
        assert explain("ml/p", "--address", f"https://{at}", *ca).exit_code == 0
        stranger = explain("ml/p", "--address", f"https://{at}")
        assert "CERTIFICATE_VERIFY_FAILED" in str(stranger.exception)


def test_all_addresses_of_a_name_are_asked() -> None:
    target = decided.parse_target("localhost:80", is_https=False)
    found = {entry[4][0] for entry in socket.getaddrinfo("localhost", 80)}
    names = [name for name, _ in decided.replicas_of(target, decided.Who(), "ml/p")]
    assert len(names) == len(found)
    assert all(name.endswith(":80") for name in names)


def test_all_pods_of_the_extender_are_asked_through_the_api_server(tmp_path: Path) -> None:
    pods = "/api/v1/namespaces/kube-system/pods"
    secure = {"containers": [{"args": ["scheduler", "--certificate", "x"]}]}
    pages: dict[str, Document] = {
        pods: {
            "items": [{"metadata": {"name": "s-0"}}, {"metadata": {"name": "s-1"}, "spec": secure}]
        },
        f"{pods}/https:s-1:8890/proxy/explain/ml/p": WHY,
    }
    with replica(pages, tls=True) as at:
        cluster = {"server": f"https://{at}", "certificate-authority": str(ACCOUNT / "ca.crt")}
        path = tmp_path / "kubeconfig"
        context = {"cluster": "c", "user": "u"}
        document = {
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": context}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(document))
        ran = explain("ml/p", "--kubeconfig", str(path), "-o", "json")
        assert json.loads(ran.stdout)["replica"] == "s-1"
        gone = explain("ml/q", "--kubeconfig", str(path))
        assert str(gone.exception) == (
            "ml/q: none of 2 replicas knows of a decision about it: it was not asked, or long ago"
        )
        none = explain("ml/p", "--kubeconfig", str(path), "--namespace", "gpu")
    assert none.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("p",), "NAMESPACE/POD"),
        (("ml/p/q",), "NAMESPACE/POD"),
        (("ml/p", "--address", "here"), "HOST:PORT"),
        (("ml/p", "--address", "ftp://a:1"), "HOST:PORT"),
        (("ml/p", "--address", "http://a:1", "--ca-file", str(ACCOUNT / "ca.crt")), "https://"),
        (("ml/p", "--ca-file", "/nowhere"), "No such file"),
        (("ml/p", "--namespace", "x"), "--kubeconfig"),
        (("ml/p", "--kubeconfig", "x", "--address", "a:1"), "not both"),
    ],
)
def test_a_flag_that_is_wrong_is_told(arguments: tuple[str, ...], meant: str) -> None:
    ran = explain(*arguments)
    assert isinstance(ran.exception, ConfigError)
    assert meant in str(ran.exception)


def test_what_is_no_extender_is_told() -> None:
    with replica({"/explain/ml/p": {"hello": 1}}) as at:
        ran = explain("ml/p", "--address", at)
    assert str(ran.exception) == f"{at}: it answers with 200 and no decision"
    assert not isinstance(ran.exception, http.client.HTTPException)
