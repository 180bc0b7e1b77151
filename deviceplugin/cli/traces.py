"""Where `simulate` takes nodes and pods from: CSV, what kubectl prints, or a Prometheus."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from deviceplugin.cli.frame import parse_number
from deviceplugin.cli.store import access_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.metrics.store import Store
from deviceplugin.scheduler.objects import Reading
from deviceplugin.simulate.cluster import cluster_nodes, cluster_pods, items_of, without_bound
from deviceplugin.simulate.export import NODES, PODS, exported_nodes, exported_pods, samples_of
from deviceplugin.simulate.trace import read_nodes, read_pods

if TYPE_CHECKING:
    from deviceplugin.scheduler.demand import Demand
    from deviceplugin.scheduler.room import NodeState

MAX_BYTES = 1 << 30
T = TypeVar("T")
_KUBECTL = "CSV, the JSON of kubectl get -o json, or of Prometheus' query"
Flags = Mapping[str, Any]


def read_trace(flags: Flags, reading: Reading) -> "tuple[Sequence[NodeState], Sequence[Demand]]":
    """The nodes, all free, and the pods; raises ConfigError and StoreError."""
    nodes, pods = _nodes(flags, reading), _pods(flags, reading)
    if flags["pods"] and (items := _items(Path(flags["pods"]))) is not None:
        nodes = _read(flags["pods"], "--pods", lambda: without_bound(nodes, items, reading))
    asked = {name: 0 for pod in pods for name, _ in pod.parts}
    for node in nodes:  # what it does not have it has none of
        node.parts = asked | node.parts
    return nodes, pods


def _nodes(flags: Flags, reading: Reading) -> "Sequence[NodeState]":
    given = flags["nodes"]
    if given is None:
        return exported_nodes(_asked(flags, "--nodes", NODES), reading)
    path = Path(given)
    if (items := _items(path)) is not None:
        return _read(given, "--nodes", lambda: cluster_nodes(items, reading))
    if (content := _json(path)) is not None:
        return _read(given, "--nodes", lambda: exported_nodes(samples_of(content), reading))
    return read_nodes(path)


def _pods(flags: Flags, reading: Reading) -> "Sequence[Demand]":
    given = flags["pods"]
    if given is None:
        return exported_pods(_asked(flags, "--pods", PODS), reading)
    path = Path(given)
    if (items := _items(path)) is not None:
        return _read(given, "--pods", lambda: cluster_pods(items, reading))
    if (content := _json(path)) is not None:
        return _read(given, "--pods", lambda: exported_pods(samples_of(content), reading))
    return read_pods(path)


def _asked(flags: Flags, flag: str, query: str) -> Sequence[Any]:
    url = flags["prometheus"]
    if not url:
        raise ConfigError(flag, None, "a file, or --prometheus")
    days = parse_number(flags["days"], "--days")
    if not 1 <= days <= 366:
        raise ConfigError("--days", flags["days"], "a number from 1 to 366")
    return Store(access_of(url, "--prometheus", flags)).instant(query.format(w=f"{days}d"))


def _json(path: Path) -> bytes | None:
    """What is in a file of JSON; None of one that is CSV, or cannot be read: then that is told."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except OSError:
        return None
    return content if content.lstrip()[:1] == b"{" else None


def _items(path: Path) -> list[Any] | None:
    content = _json(path)
    if content is None:
        return None
    try:
        return items_of(content)
    except ValueError:
        return None


def _read(given: str, flag: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValueError, msgspec.MsgspecError, DevicePluginError) as error:
        raise ConfigError(flag, given, _KUBECTL, reason=str(error)) from error
