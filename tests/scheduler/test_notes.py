"""Events on pods about decisions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from deviceplugin.kubernetes.api import Api
from deviceplugin.scheduler.notes import MAX_WAITING, Notes, message_of
from deviceplugin.scheduler.objects import Pod
from tests.kubernetes.stub import ApiStub, api_stub
from tests.scheduler.objects import pod

pytestmark = pytest.mark.slow
CHOSEN: dict[str, Any] = {
    "demand": {"gpus": 1, "partitions": {}, "claims": []},
    "fitting": 3,
    "best": [{"node": "a", "by": "facts"}, {"node": "b", "by": "counts"}],
    "lacking": "its GPUs are busier, hotter or have faults",
    "failed": [],
}
REFUSED: dict[str, Any] = {
    **CHOSEN,
    "best": [],
    "failed": [{"reason": "0 GPUs free, 1 requested", "nodes": 2}],
}


@pytest.fixture
def api() -> Iterator[ApiStub]:
    with api_stub() as stub:
        yield stub


@contextmanager
def notes(api: ApiStub) -> Iterator[Notes]:
    made = Notes(Api(api.access), lambda: 1000.5)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join()


def a_pod(name: str = "p") -> Pod:
    return msgspec.convert(pod(name, gpus=1), Pod)


def test_an_event_says_why_this_node_and_what_the_next_lacked(api: ApiStub) -> None:
    with notes(api) as written:
        written.decided(a_pod(), CHOSEN)
    (event,) = api.events.values()
    assert event["involvedObject"]["uid"] == "uid-p"
    assert (event["reason"], event["type"]) == ("GpuNodeChosen", "Normal")
    assert event["message"] == (
        "a is the best of 3 nodes (judged by facts); the next is b:"
        " its GPUs are busier, hotter or have faults"
    )
    assert written.written == 1


def test_an_event_says_why_there_is_no_node(api: ApiStub) -> None:
    with notes(api) as written:
        written.decided(a_pod(), REFUSED)
    (event,) = api.events.values()
    assert (event["reason"], event["type"]) == ("GpuNodeNotFound", "Warning")
    assert event["message"] == "no node has room: 2 × 0 GPUs free, 1 requested"


def test_the_same_is_told_once(api: ApiStub) -> None:
    with notes(api) as written:
        for _ in range(5):
            written.decided(a_pod(), REFUSED)
    assert written.written == 1


def test_a_pod_without_gpus_is_not_told_where_it_goes(api: ApiStub) -> None:
    with notes(api) as written:
        written.decided(a_pod(), {**CHOSEN, "demand": {"gpus": 0, "partitions": {}, "claims": []}})
    assert written.written == 0


def test_what_the_server_refuses_or_cannot_take_is_counted(api: ApiStub) -> None:
    api.failures.append(403)
    with notes(api) as written:
        written.decided(a_pod(), CHOSEN)
    idle = Notes(Api(api.access))
    for n in range(MAX_WAITING + 3):
        idle.decided(a_pod(str(n)), CHOSEN)
    assert (written.left_out, idle.left_out) == (1, 3)


def test_a_message_is_one_line_that_the_server_takes() -> None:
    failed = [{"reason": "x\n" * 2000, "nodes": 1}]
    text = message_of({**REFUSED, "failed": failed})
    assert len(text) <= 1000
    assert "\n" not in text
