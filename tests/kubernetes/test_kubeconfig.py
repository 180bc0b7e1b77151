"""A kubeconfig instead of a pod's service account."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.kubernetes.api import Api, ApiError, in_cluster
from tests.kubernetes.stub import ACCOUNT, TOKEN, ApiStub, api_stub

Document = dict[str, Any]


def written(tmp_path: Path, cluster: Document, user: Document, **changes: object) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document | changes))
    return str(path)


def cluster_of(api: ApiStub) -> Document:
    return {
        "server": f"https://127.0.0.1:{api.access.port}",
        "certificate-authority": str(ACCOUNT / "ca.crt"),
    }


def answered(path: str) -> bool:
    node = Api(in_cluster({"KUBECONFIG": path})).request("GET", "/api/v1/nodes/node-1")
    return bool(node["metadata"]["name"] == "node-1")


def test_a_token_and_an_authority_are_read_from_the_file_or_from_files_beside_it(
    tmp_path: Path,
) -> None:
    content = base64.b64encode((ACCOUNT / "ca.crt").read_bytes()).decode()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes((ACCOUNT / "ca.crt").read_bytes())
    with api_stub() as api:
        cluster = cluster_of(api)
        inside = {"server": cluster["server"], "certificate-authority-data": content}
        beside = {"server": cluster["server"], "certificate-authority": "ca.crt"}
        assert answered(written(tmp_path, cluster, {"token": TOKEN}))
        assert answered(written(tmp_path, inside, {"token": "old", "tokenFile": "token"}))
        assert answered(written(tmp_path, beside, {"tokenFile": "token"}))
        with pytest.raises(ApiError, match="401"):
            answered(written(tmp_path, cluster, {"token": "another"}))


def test_a_certificate_says_who_asks(tmp_path: Path) -> None:
    pair = {
        "client-certificate-data": base64.b64encode((ACCOUNT / "ca.crt").read_bytes()).decode(),
        "client-key": str(ACCOUNT / "key.pem"),
    }
    with api_stub() as api:
        assert answered(written(tmp_path, cluster_of(api), pair | {"token": TOKEN}))
        with pytest.raises(ApiError, match="401"):  # the stub asks for no certificate
            answered(written(tmp_path, cluster_of(api), pair))


def test_a_pods_account_comes_first(tmp_path: Path) -> None:
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBECONFIG": str(tmp_path / "none"),
    }
    assert in_cluster(environ).host == "10.0.0.1"


@pytest.mark.parametrize(
    ("cluster", "user", "changes", "message"),
    [
        ({}, {"exec": {"command": "aws"}}, {}, r"user.exec: .*; no program is run for credentials"),
        ({}, {"username": "a"}, {}, r"user.username: "),
        ({"proxy-url": "http://p"}, {}, {}, r"cluster.proxy-url: "),
        ({"insecure-skip-tls-verify": True}, {}, {}, r"cluster.insecure-skip-tls-verify: "),
        ({"server": "http://127.0.0.1"}, {}, {}, r"server: 'http://127.0.0.1' .* https://HOST"),
        ({"certificate-authority-data": "?"}, {}, {}, r"certificate-authority-data: .* base64"),
        ({"certificate-authority": "none.crt"}, {}, {}, r"certificate-authority: none.crt: "),
        ({"server": "https://h:x"}, {}, {}, r"server: 'https://h:x' .* https://HOST"),
        ({"server": "https://[::1"}, {}, {}, r"server: 'https://\[::1' .* https://HOST"),
        ({}, {"token": 7}, {}, r"token: '\*\*\*' is not valid, expected text"),
        ({}, {}, {"users": [{"name": "u"}]}, r"users: 'u' is not valid"),
        ({}, {}, {"current-context": "there"}, r"contexts: 'there' is not valid"),
        ({}, {}, {"users": None}, r"users: 'u' is not valid"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, cluster: Document, user: Document, changes: Document, message: str
) -> None:
    path = written(tmp_path, {"server": "https://127.0.0.1:1"} | cluster, user, **changes)
    with pytest.raises(ApiError, match=f"KUBECONFIG: {message}"):
        in_cluster({"KUBECONFIG": path})


@pytest.mark.parametrize("content", ["", "[1", "- a", "\0", "[" * 1500, "#" * (1 << 20) + "\n"])
def test_a_file_that_is_no_kubeconfig_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ApiError, match=r"^KUBECONFIG: [^\n]+$"):
        in_cluster({"KUBECONFIG": str(path)})


@pytest.mark.parametrize("line", ["token: [SECRET", 'token: "SECRET', "token: 'SECRET\\n\n x'"])
def test_no_error_shows_a_token(tmp_path: Path, line: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(f"users:\n- name: u\n  user:\n    {line}\n")
    with pytest.raises(ApiError) as raised:
        in_cluster({"KUBECONFIG": str(path)})
    assert "SECRET" not in str(raised.value)


def test_a_token_of_two_lines_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"server": "https://127.0.0.1:1"}, {"token": "SECRET\n"})
    with pytest.raises(ApiError, match=r"token: .* text in one line") as raised:
        in_cluster({"KUBECONFIG": path})
    assert "SECRET" not in str(raised.value)
