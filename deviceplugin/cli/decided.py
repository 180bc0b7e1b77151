"""What the replicas of the extender decided about a pod: each is asked, as each knows only what it
was asked itself, and the latest decision is shown."""

import http.client
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec import Struct

from deviceplugin.cli.store import file_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.names import one_line
from deviceplugin.runtime.tables import table

ASK_S = 10.0
MAX_BYTES = 1 << 20
MAX_REPLICAS = 64
PORT = 8890
LABEL = "app.kubernetes.io/name=deviceplugin-scheduler"
Document = dict[str, Any]
Ask = Callable[[], Document | None]


class Target(Struct, frozen=True, kw_only=True):
    """An address as it was given, taken apart; `path` stands before that of the page."""

    host: str
    port: int
    is_https: bool = False
    path: str = ""


class Who(Struct, frozen=True, kw_only=True):
    """As whom replicas are asked, and whom to believe instead of the system."""

    token_file: Path | None = None
    ca_file: Path | None = None


def parse_target(text: str, *, is_https: bool) -> Target:
    """HOST:PORT or a URL; raises ConfigError."""
    meant = f"HOST:PORT, or a URL such as https://deviceplugin-scheduler.kube-system.svc:{PORT}"
    try:
        url = urlsplit(text if "://" in text else f"http{'s' * is_https}://{text}")
        port = url.port or (PORT if "://" in text else 0)
    except ValueError as error:
        raise ConfigError("--address", text, meant) from error
    if url.scheme not in ("http", "https") or not url.hostname or not port or url.query:
        raise ConfigError("--address", text, meant)
    if is_https and url.scheme == "http":
        raise ConfigError("--address", text, "https:// with --ca-file")
    path = url.path.rstrip("/")
    return Target(host=url.hostname, port=port, is_https=url.scheme == "https", path=path)


def replicas(
    pod: str, addresses: Sequence[str], flags: Mapping[str, str | None], *, given: bool
) -> Iterator[tuple[str, Ask]]:
    """Whom the flags name, by name with how to ask; raises ConfigError and DevicePluginError."""
    namespace, _, name = pod.partition("/")
    if not namespace or not name or "/" in name:
        raise ConfigError("POD", pod, "NAMESPACE/POD")
    who = Who(token_file=file_of(flags, "token_file"), ca_file=file_of(flags, "ca_file"))
    kubeconfig, of = flags["kubeconfig"], flags["namespace"]
    if kubeconfig is None:
        if of is not None:
            raise ConfigError("--namespace", of, "--kubeconfig, or without the flag")
        targets = [parse_target(text, is_https=bool(who.ca_file)) for text in addresses]
        return chain.from_iterable(replicas_of(target, who, pod) for target in targets)
    for flag, one in (
        ("--address", given),
        ("--ca-file", who.ca_file),
        ("--token-file", who.token_file),
    ):
        if one:
            raise ConfigError(flag, "given", "it or --kubeconfig, not both")
    return replicas_of_cluster(kubeconfig, of or "kube-system", pod)


def replicas_of(target: Target, who: Who, pod: str) -> Iterator[tuple[str, Ask]]:
    """Each address that the name has; raises DevicePluginError if it has none."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DevicePluginError(f"{target.host}:{target.port}: {error}") from error
    for at in sorted({str(entry[4][0]) for entry in found})[:MAX_REPLICAS]:
        shown = f"[{at}]" if ":" in at else at
        yield f"{shown}:{target.port}", partial(_asked, target, who, (at, pod))


def _asked(target: Target, who: Who, asked: tuple[str, str]) -> Document | None:
    """The decision; raises OSError, ValueError and HTTPException."""
    at, pod = asked
    connection = http.client.HTTPConnection(target.host, target.port, timeout=ASK_S)
    headers = {"Accept": "application/json"}
    if who.token_file is not None:
        headers["Authorization"] = f"Bearer {who.token_file.read_text().strip()}"
    try:
        connection.sock = socket.create_connection((at, target.port), ASK_S)
        if target.is_https:
            connection.sock = _encrypted(connection.sock, target.host, who)
        connection.request("GET", f"{target.path}/explain/{quote(pod)}", headers=headers)
        answer = connection.getresponse()
        content = answer.read(MAX_BYTES)
    finally:
        connection.close()
    if answer.status == 404:
        return None
    document = json.loads(content) if answer.status == 200 else None
    if not isinstance(document, dict) or "best" not in document:
        raise ValueError(f"it answers with {answer.status} and no decision")
    return document


def _encrypted(plain: socket.socket, host: str, who: Who) -> socket.socket:
    from deviceplugin.runtime.trust import trusting  # noqa: PLC0415  # OpenSSL is 4 MiB

    context = trusting(cafile=str(who.ca_file) if who.ca_file else None)
    return context.wrap_socket(plain, server_hostname=host)


def replicas_of_cluster(kubeconfig: str, namespace: str, pod: str) -> Iterator[tuple[str, Ask]]:
    """Each pod of the extender, through the API server's proxy; raises ApiError."""
    from deviceplugin.kubernetes.api import Api, ApiError  # noqa: PLC0415  # not for `run`
    from deviceplugin.kubernetes.kubeconfig import read_kubeconfig  # noqa: PLC0415

    api = Api(read_kubeconfig(kubeconfig))
    pods = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"

    def ask(name: str, scheme: str) -> Document | None:
        path = f"{pods}/{scheme}:{name}:{PORT}/proxy/explain/{quote(pod)}"
        try:
            return api.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    found = api.request("GET", f"{pods}?labelSelector={quote(LABEL)}&limit={MAX_REPLICAS}")
    for one in found.get("items") or ():
        name = str(one["metadata"]["name"])
        yield name, partial(ask, name, "https" if "--certificate" in json.dumps(one) else "http")


def latest(pod: str, replicas: Iterable[tuple[str, Ask]], say: Callable[[str], None]) -> Document:
    """The last decision that any of them made, with who made it; `say` is told who did not answer.
    Raises DevicePluginError without one."""
    found, asked, failed = list[Document](), 0, list[str]()
    for name, ask in replicas:
        asked += 1
        try:
            document = ask()
        except (OSError, ValueError, http.client.HTTPException, DevicePluginError) as error:
            failed.append(one_line(f"{name}: {error or type(error).__name__}"))
            continue
        if document is not None:
            found.append({**document, "replica": name})
    if found:
        for text in failed:
            say(text)
        return max(found, key=lambda one: str(one.get("decided_at", "")))
    if not asked:
        raise DevicePluginError(f"{pod}: no replica of the extender was found")
    if failed:
        raise DevicePluginError("; ".join(failed))
    who = f"none of {asked} replicas knows" if asked > 1 else "the replica does not know"
    raise DevicePluginError(f"{pod}: {who} of a decision about it: it was not asked, or long ago")


_COLUMNS = (
    *(("node", "NODE"), ("by", "JUDGED BY"), ("gpus", "GPUS"), ("fragment_milli", "FRAGMENT")),
    *(("waste_milli", "WASTE"), ("stranded_milli", "STRANDED"), ("affinity_milli", "AFFINITY")),
    *(("balance_milli", "BALANCE"), ("added_watts", "WATTS")),
)


def as_text(why: Mapping[str, Any]) -> str:
    """The decision for people."""
    lines = [f"{why['pod']} asks for {_demand(why['demand'])}"]
    when = f"decided at {why.get('decided_at', 'an unknown time')} by {why.get('replica', '')}"
    if why["best"]:
        best, *others = why["best"]
        lines.append(f"{best['node']} is the best of {why['fitting']} nodes; {when}")
        if others:
            lines.append(f"{others[0]['node']} is the next: {why['lacking']}")
        rows = [[_cell(one, key) for key, _ in _COLUMNS] for one in why["best"]]
        lines += ["", table([title for _, title in _COLUMNS], rows).rstrip("\n")]
        lines.append(f"Costs are thousandths of a GPU; the order is that of the {_by(why)}.")
    else:
        lines.append(f"no node fits; {when}")
    if why["failed"]:
        rows = [[str(one["nodes"]), one["reason"]] for one in why["failed"]]
        lines += ["", table(["NODES", "WHY NOT"], rows).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _by(why: Mapping[str, Any]) -> str:
    return str(why["ordered_by"]).replace("round_robin", "nodes by turns")


def _cell(cost: Mapping[str, Any], key: str) -> str:
    if key == "gpus":
        parts = [f"{p['resource']}@{p['gpu']}:{p['start']}" for p in cost.get("partitions", ())]
        return ",".join([*map(str, cost[key]), *parts]) or "-"
    return str(cost.get(key, "-"))


def _demand(demand: Mapping[str, Any]) -> str:
    asked = [f"{demand['cpu_milli']}m CPU", f"{demand['memory_mib']} MiB"]
    if demand["gpus"]:
        size = "" if demand["gpu_milli"] == 1000 else f" to {demand['gpu_milli'] / 10:g} %"
        models = f" of {' or '.join(demand['models'])}" if demand["models"] else ""
        asked.insert(0, f"{demand['gpus']} GPU{'s' * (demand['gpus'] != 1)}{size}{models}")
    parts: Sequence[str] = [f"{count} {name}" for name, count in demand["partitions"].items()]
    return ", ".join([*parts, *asked])
