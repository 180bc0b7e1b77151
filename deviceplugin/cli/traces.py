"""Where `simulate` takes nodes and pods from: CSV, what kubectl prints, or a Prometheus."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from deviceplugin.cli.frame import parse_number
from deviceplugin.cli.store import access_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.metrics.reply import StoreError, parse_range
from deviceplugin.metrics.store import Store
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.simulate.cluster import (
    cluster_coming,
    cluster_nodes,
    cluster_pods,
    items_of,
    without_bound,
)
from deviceplugin.simulate.coming import Timed
from deviceplugin.simulate.export import (
    NODES,
    PODS,
    exported_coming,
    exported_nodes,
    exported_pods,
    samples_of,
    spans_asked,
    spans_seen,
)
from deviceplugin.simulate.trace import as_objects, read_coming, read_nodes, read_pods

if TYPE_CHECKING:
    from deviceplugin.scheduler.demand import Demand
    from deviceplugin.scheduler.room import NodeState
    from deviceplugin.simulate.coming import Coming

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


def read_timed(flags: Flags, reading: Reading) -> Timed:
    """The same with times; raises ConfigError and StoreError."""
    staying, coming = _coming(flags, reading)
    if not coming:
        raise ConfigError("--pods", flags["pods"], "pods with times, at least one")
    return Timed(nodes=_objects(flags, reading), staying=staying, coming=coming)


def _coming(flags: Flags, reading: Reading) -> "tuple[Sequence[Pod], Sequence[Coming]]":
    given = flags["pods"]
    if given is None:
        samples = _asked(flags, "--pods", PODS)
        store, window = _store(flags, "--pods")
        spans = spans_asked(store.instant, window)
        return (), _read(
            flags["prometheus"], "--prometheus", lambda: exported_coming(samples, spans, reading)
        )
    path = Path(given)
    if (items := _items(path)) is not None:
        return _read(given, "--pods", lambda: cluster_coming(items, reading))
    if (content := _json(path)) is not None:
        return (), _read(given, "--pods", lambda: _ranged(content, reading))
    return (), read_coming(path)


def _ranged(content: bytes, reading: Reading) -> "Sequence[Coming]":
    """Raises ValueError for an answer of one moment, which says nothing of times."""
    try:
        series = parse_range(content)
    except StoreError as error:
        text = "with --timed an answer of query_range, or CSV, or what kubectl prints"
        raise ValueError(text) from error
    return exported_coming(samples_of(content), spans_seen(series), reading)


def _objects(flags: Flags, reading: Reading) -> "Sequence[Node]":
    given = flags["nodes"]
    if given is not None and (items := _items(Path(given))) is not None:
        return _read(given, "--nodes", lambda: msgspec.convert(items, list[Node]))
    return as_objects(_nodes(flags, reading), reading)


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
    store, window = _store(flags, flag)
    return store.instant(query.format(w=window))


def _store(flags: Flags, flag: str) -> tuple[Store, str]:
    """What is asked, and of what time."""
    url = flags["prometheus"]
    if not url:
        raise ConfigError(flag, None, "a file, or --prometheus")
    days = parse_number(flags["days"], "--days")
    if not 1 <= days <= 366:
        raise ConfigError("--days", flags["days"], "a number from 1 to 366")
    return Store(access_of(url, "--prometheus", flags)), f"{days}d"


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
