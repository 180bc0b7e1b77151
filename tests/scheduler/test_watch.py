"""Lists and watches: what cannot be read costs itself alone, and silence is told."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import structlog

from deviceplugin.kubernetes.api import JSON, MAX_ANSWER_BYTES, Api, ApiError, TooLargeError
from deviceplugin.scheduler.kinds import Watched, dra_kinds
from deviceplugin.scheduler.listing import NAMES, Items, Listing
from deviceplugin.scheduler.objects import Node, Pod
from deviceplugin.scheduler.published import DRIVERS
from deviceplugin.scheduler.watch import GONE, MAX_TOLD, Watch
from deviceplugin.scheduler.watches import Watches
from tests.scheduler.objects import Document, node, pod
from tests.scheduler.slices import device, slice_of
from tests.scheduler.stub import watch_stub

NODES = Watched(path="/api/v1/nodes", kind=Node)
PODS = Watched(path="/api/v1/pods", kind=Pod)
WAIT_S = 60.0
ODD = {"labels": {"a": 3}}  # no labels, for us


class Server:
    """What there is, and watches: of each either lines, or how it fails."""

    def __init__(self, *objects: Document, most: int = MAX_ANSWER_BYTES) -> None:
        self.objects, self.most = list(objects), most
        self.watches: list[list[bytes] | Exception] = []
        self.limits: list[int] = []
        self.served: Callable[[], None] = lambda: None  # called when nothing is left to happen

    def content(self, path: str, accept: str = JSON) -> bytes:
        query = parse_qs(urlsplit(path).query)
        limit, start = int(query["limit"][0]), int(query.get("continue", ["0"])[0])
        items, following = self.objects[start : start + limit], ""
        if accept == NAMES:
            items = [{"metadata": {"name": one["metadata"]["name"]}} for one in items]
        else:
            self.limits.append(limit)
        if start + limit < len(self.objects):
            following = str(start + limit)
        meta = {"resourceVersion": "7", "continue": following}
        content = msgspec.json.encode({"metadata": meta, "items": items})
        if len(content) > self.most:
            raise TooLargeError(f"{path}: too large")
        return content

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        assert path
        assert quiet_s
        if not self.watches:
            self.served()
            return
        found = self.watches.pop(0)
        if isinstance(found, Exception):
            raise found
        yield from found


def event(how: str, thing: Document) -> bytes:
    return msgspec.json.encode({"type": how, "object": thing}) + b"\n"


def listed(server: Server, what: Watched = NODES) -> tuple[list[str], dict[str, str]]:
    found = Listing(server, what, Items(what)).all()
    assert found.version == "7"
    return [one.metadata.name for one in found.found], dict(found.left_out)


def followed(server: Server, what: Watched = NODES) -> tuple[list[tuple[str, list[Any]]], Watch]:
    """What a watch tells until nothing is left to happen."""
    told: list[tuple[str, list[Any]]] = []
    watch = Watch(server, what, lambda kind, found: told.append((kind, list(found))))
    server.served = watch.stop.set
    thread = threading.Thread(target=watch.run)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    return told, watch


def large(name: str, kib: int) -> Document:
    return {"metadata": {"name": name, "annotations": {"note": "x" * (kib << 10)}}}


def test_a_page_that_is_too_large_is_asked_for_by_halves() -> None:
    server = Server(*(large(f"n{n:03}", 40) for n in range(300)))
    names, left_out = listed(server)
    assert names == [f"n{n:03}" for n in range(300)]
    assert left_out == {}
    assert server.limits == [250, 125, 125, 125]


def test_one_large_object_is_left_out_and_pages_grow_again() -> None:
    objects = [large(f"n{n:04}", 1) for n in range(2000)]
    objects[700] = large("huge", 5000)
    server = Server(*objects, most=4 << 20)
    names, left_out = listed(server)
    assert len(names) == 1999
    assert left_out.keys() == {"huge"}
    assert "too large" in left_out["huge"]
    assert len(server.limits) < 40
    assert server.limits[-1] == 250


@pytest.mark.parametrize("last", [True, False])
def test_a_large_object_may_be_all_there_is_or_the_last(last: bool) -> None:
    server = Server(*([node("a")] if last else []), large("huge", 5000), most=4 << 20)
    assert listed(server)[0] == (["a"] if last else [])
    assert listed(server)[1].keys() == {"huge"}


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"metadata": {"name": "b", **ODD}}, "b"),
        ({"metadata": {"name": "b", "namespace": "ml"}, "spec": 3}, "ml/b"),
        ({"metadata": {"name": 7}, "spec": {}}, "(one without a name)"),
        (None, "(one without a name)"),
    ],
    ids=["label", "spec", "name", "null"],
)
def test_one_object_that_is_none_costs_no_other(bad: Any, name: str) -> None:
    names, left_out = listed(Server(pod("a"), bad, pod("c")), PODS)
    assert names == ["a", "c"]
    assert left_out.keys() == {name}


def test_a_slice_that_is_none_costs_no_other() -> None:
    slices, *_ = dra_kinds(DRIVERS)
    odd = slice_of("b", [device(0, of="b")])
    odd["spec"]["devices"] = 3
    server = Server(slice_of("a", [device(0, of="a")]), odd)
    found = Listing(server, slices, Items(slices)).all()
    assert [one.node for one in found.found] == ["a"]
    assert list(found.left_out) == [odd["metadata"]["name"]]


def test_an_event_that_cannot_be_read_leaves_what_was_and_the_watch() -> None:
    server = Server(node("a"))
    odd = {"metadata": {"name": "a", "resourceVersion": "8", **ODD}}
    server.watches = [[event("MODIFIED", odd), event("ADDED", node("b"))]]
    with structlog.testing.capture_logs() as logs:
        told, watch = followed(server)
    assert [(kind, [one.metadata.name for one in found]) for kind, found in told] == [
        ("SET", ["a"]),
        ("PUT", ["b"]),
    ]
    assert (len(watch.left_out), watch.failures) == (1, 0)
    (line,) = logs
    assert (line["event"], line["path"], line["name"]) == (
        "scheduler_object_left_out",
        "/api/v1/nodes",
        "a",
    )
    assert "labels" in line["error"]


def test_of_what_is_gone_its_name_is_enough() -> None:
    server = Server(pod("p"))
    odd = {"metadata": {"name": "p", "namespace": "ml", "uid": "uid-p", **ODD}}
    server.watches = [[event("MODIFIED", odd), event("DELETED", odd)]]
    told, watch = followed(server, PODS)
    assert [(kind, [one.key for one in found]) for kind, found in told] == [
        ("SET", ["uid-p"]),
        ("DELETED", ["uid-p"]),
    ]
    assert len(watch.left_out) == 0


def test_what_can_be_read_again_is_no_longer_left_out() -> None:
    server = Server({"metadata": {"name": "a", **ODD}})
    server.watches = [[event("MODIFIED", node("a"))]]
    told, watch = followed(server)
    assert [kind for kind, _ in told] == ["SET", "PUT"]
    assert len(watch.left_out) == 0


def test_an_event_that_is_too_large_is_passed_over() -> None:
    server = Server(node("a"))
    whole = event("MODIFIED", large("a", 100))
    server.watches = [[whole[:50_000], whole[50_000:100_000], whole[100_000:]]]
    server.watches[0] += [event("ADDED", node("b"))]  # type: ignore[operator]  # lines
    told, watch = followed(server)
    assert [kind for kind, _ in told] == ["SET", "PUT"]
    assert (len(watch.left_out), watch.failures) == (1, 0)


def test_lines_about_what_is_left_out_are_few() -> None:
    server = Server(*({"metadata": {"name": f"n{n}", **ODD}} for n in range(300)))
    with structlog.testing.capture_logs() as logs:
        _, watch = followed(server)
    assert len(watch.left_out) == 300
    assert len(logs) == MAX_TOLD


@pytest.mark.parametrize(
    "failure",
    [ApiError("no", 503), ApiError("gone", GONE), OSError("odd"), ZeroDivisionError()],
    ids=["refused", "gone", "unexpected", "defect"],
)
def test_a_watch_goes_on_after_whatever_fails(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deviceplugin.scheduler.watch.PAUSE_S", 0.0)
    server = Server(node("a"))
    server.watches = [failure, [event("ADDED", node("b"))]]
    with structlog.testing.capture_logs() as logs:
        told, watch = followed(server)
    assert [kind for kind, _ in told] == ["SET", "SET", "PUT"]
    assert (watch.failures, watch.failure) == (1, "")
    assert [one["event"] for one in logs] == [
        "scheduler_watch_failed",
        "scheduler_watch_recovered",
    ]


def test_only_a_kind_that_was_there_can_be_silent() -> None:
    clock = [0.0]
    what, *_ = dra_kinds(DRIVERS)
    needed = Watch(Server(), NODES, lambda *_: None, lambda: clock[0])
    optional = Watch(Server(), what, lambda *_: None, lambda: clock[0])
    watches = Watches()
    watches._all = [needed, optional]
    assert watches.told() == ""
    clock[0] = 400
    assert (needed.age_s, optional.age_s) == (400, None)
    assert watches.told() == "nodes: nothing heard for 400 s\n"


@pytest.mark.slow
def test_answers_over_the_limit_are_known_from_others() -> None:
    with watch_stub() as stub:
        stub.put("nodes", large("huge", (MAX_ANSWER_BYTES >> 10) + 1))
        api = Api(stub.access)
        with pytest.raises(TooLargeError, match="more than 8 MiB"):
            api.content("/api/v1/nodes?limit=250")
        with pytest.raises(TooLargeError, match="more than 8 MiB"):
            api.request("GET", "/api/v1/nodes?limit=250")
        stub.away = True
        with pytest.raises(ApiError, match="503"):
            api.content("/api/v1/nodes?limit=250")
