"""Any question, about any cluster, has an answer: 200, or 400 with the reason."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.scheduler import asking
from deviceplugin.scheduler.about import Wants
from deviceplugin.scheduler.fairness import FairShare
from deviceplugin.scheduler.http import Request
from deviceplugin.scheduler.kinds import Watched
from deviceplugin.scheduler.listing import Items, UnreadableError
from deviceplugin.scheduler.objects import Reading
from deviceplugin.scheduler.service import Service, Settings
from tests.scheduler.objects import node, pod
from tests.scheduler.partitions import asking as of_parts
from tests.scheduler.partitions import told
from tests.scheduler.slices import CLASSES, bare, claim, claiming, device, slice_of

Place = tuple[str | int, ...]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "-1", "1e99", "9" * 20, "1E-99", "1.5", "0x1", "Ki", "\0", "ä" * 300]),
    st.sampled_from([4096, 10**9, "100M", "9E", "-5"]),
    st.sampled_from(["1Ki", "100m", "a", "b", "ml/c", "uid-p", "required", "{}", "[]"]),
    st.builds(list),
    st.builds(dict),
    st.text(max_size=10),
    st.recursive(
        st.none() | st.text(max_size=3) | st.integers(),
        lambda some: st.lists(some) | st.dictionaries(st.text(max_size=3), some),
        max_leaves=5,
    ),
)
WANTS = {
    asking.CLASS: "training",
    asking.MEMORY: "1MiB",
    asking.LINKS: "required",
    asking.NIC: "false",
    asking.BESIDE: "a,b",
    asking.NOT_BESIDE: "c",
}
CLASSED = asking.Asking(classes={"training": Wants(memory_mib=1)})
ORDERING = ("filter", "prioritize")
GROUP = {asking.DOMAIN: "required", asking.GROUP: "g", asking.GROUP_SIZE: "1"}


def world() -> dict[str, list[Any]]:
    """A small cluster, by kind."""
    return {
        "nodes": [node("a", 4), told("b", ((0, 1), ())), bare("c")],
        "pods": [
            pod("there", gpus=1, node="a"),
            pod("p", gpus=2),
            of_parts("x", node="b", one=1),
            claiming("q", "c"),
        ],
        "resourceslices": [slice_of("c", [device(n, of="c") for n in range(2)])],
        "resourceclaims": [claim("c", count=1), claim("d", count=1, got=[("c", "gpu-0")])],
        "deviceclasses": [*CLASSES],
    }


def questions() -> list[tuple[str, Any]]:
    """What kube-scheduler may ask: the verb, and the body."""
    names = ["a", "b", "c", "new"]
    near, member, part = pod("p", gpus=1), pod("m", gpus=1), of_parts("y", one=1)
    near["metadata"]["annotations"], member["metadata"]["annotations"] = WANTS, GROUP
    small = pod("s", share=40)
    asked = [(verb, one) for one in (near, member, part, small) for verb in ORDERING]
    return [
        *((verb, {"Pod": one, "NodeNames": names, "Nodes": None}) for verb, one in asked),
        ("prioritize", {"Pod": claiming("q", "c"), "Nodes": {"items": [node("a"), node("b")]}}),
        (
            "preempt",
            {
                "Pod": pod("p", gpus=3),
                "NodeNameToVictims": {"a": {"Pods": [pod("there")], "NumPDBViolations": 0}},
                "NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "uid-x"}]}},
            },
        ),
    ]


def places(thing: Any, there: Place = ()) -> Iterator[Place]:
    """Where something stands in it."""
    yield there
    inside: Any = thing.items() if isinstance(thing, dict) else ()
    inside = enumerate(thing) if isinstance(thing, list) else inside
    for key, value in inside:
        yield from places(value, (*there, key))


def changed(thing: Any, place: Place, odd: Any) -> Any:
    """The same with something odd in one place."""
    if not place:
        return odd
    again = copy.copy(thing)
    again[place[0]] = changed(thing[place[0]], place[1:], odd)
    return again


ASKED, KNOWN = questions(), world()
IN_QUESTIONS = [(n, place) for n, (_, body) in enumerate(ASKED) for place in places(body)]
IN_WORLD = [place for place in places(KNOWN) if len(place) > 1]
changes = st.lists(st.tuples(st.sampled_from(IN_WORLD), ODD), max_size=3)


def service_of(known: dict[str, list[Any]]) -> Service:
    """That has listed the cluster, and left out what cannot be read."""
    one = Settings(
        address=("127.0.0.1", 0),
        reading=Reading(shares={"example.com/share": 10}, asking=CLASSED),
        fair=FairShare(),
        keep_after_s=1.0,
    )
    service = Service(one, lambda: 1000.0, lambda: 1e9)
    for what, put in service._watched():
        put("SET", list(read(what, known[what.name])))
    return service


def read(what: Watched, objects: list[Any]) -> Iterator[Any]:
    items = Items(what)
    for one in objects:
        try:
            yield items.one(msgspec.Raw(json.dumps(one).encode()))
        except UnreadableError as error:
            assert str(error)


def ask(service: Service, verb: str, body: bytes) -> int:
    answer = service.answer(Request("POST", f"/{verb}", body))
    status = int(answer.status.partition(" ")[0])
    assert status in (200, 400)
    assert answer.body
    if status == 200:
        json.loads(answer.body)
    return status


def ask_all(service: Service) -> None:
    for verb, body in ASKED:
        ask(service, verb, json.dumps(body).encode())
    for name in ("ml/p", "ml/m", "ml/q", "", "..", "a/b/c"):
        answer = service.answer(Request("GET", f"/explain/{name}", b""))
        assert answer.status.partition(" ")[0] in ("200", "404")
    assert service.answer(Request("GET", "/metrics", b"")).status == "200 OK"


@pytest.fixture(scope="module")
def service() -> Service:
    return service_of(KNOWN)


def test_what_kube_scheduler_asks_is_answered(service: Service) -> None:
    for verb, body in ASKED:
        assert ask(service, verb, json.dumps(body).encode()) == 200


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(IN_QUESTIONS), ODD)
def test_a_question_with_something_odd_has_an_answer(
    service: Service, where: tuple[int, Place], odd: Any
) -> None:
    (verb, body), place = ASKED[where[0]], where[1]
    ask(service, verb, json.dumps(changed(body, place, odd)).encode())
    ask_all(service)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([*ORDERING, "preempt"]), st.binary(max_size=100))
def test_bytes_are_a_question_or_are_refused(service: Service, verb: str, body: bytes) -> None:
    ask(service, verb, body)


@settings(max_examples=100, deadline=None)
@given(changes)
def test_a_cluster_with_something_odd_is_known_as_far_as_it_can_be_read(
    found: list[tuple[Place, Any]],
) -> None:
    known: Any = KNOWN
    for place, odd in found:
        try:
            known = changed(known, place, odd)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    ask_all(service_of(known))
