"""What holds for every policy, every node and every question."""

import random
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.model import AdvertisedID, DeviceID, Preference, Resource
from deviceplugin.placement.prefer import BUILT_IN, prefer
from deviceplugin.placement.topology import PciTopology, topology_of
from deviceplugin.placement.view import Context
from deviceplugin.vendor import Reading
from tests.placement import boxes
from tests.placement.boxes import NAME, Box

BOXES = [
    Box(boxes.dgx_a100()),
    Box(boxes.nvlink_pairs(6)),
    Box(boxes.mi210()),
    Box(boxes.parts(boxes.pcie_only(4), 3)),
    Box(boxes.unlinked(5)),
]
REPLICAS, _DEVICES = boxes.replicated(boxes.pcie_only(3), 4)
_TOPOLOGY = topology_of(boxes.inventory(_DEVICES.values()), PciTopology())
RESOURCES = [
    *((box.resource, box.context) for box in BOXES),
    (REPLICAS, Box.prepared(REPLICAS, Context(topology=_TOPOLOGY))),
]


Question = tuple[Resource, Context, list[AdvertisedID], list[AdvertisedID], int]


@st.composite
def questions(draw: st.DrawFn) -> Question:
    resource, base = draw(st.sampled_from(RESOURCES))
    ids = [entry.id for entry in resource.devices]
    available = draw(st.lists(st.sampled_from([*ids, AdvertisedID("unlisted")]), unique=True))
    must = draw(st.lists(st.sampled_from(available), unique=True)) if available else []
    size = draw(st.integers(min_value=len(must), max_value=len(ids) + 2))
    gpus = base.topology.gpus
    number = st.integers(min_value=0, max_value=1_000_000_000)
    reading = st.builds(Reading, utilisation_percent=st.none() | st.floats(0, 100))
    context = Context(
        topology=base.topology,
        layouts=base.layouts,
        loads=draw(st.dictionaries(st.sampled_from(gpus), number)),
        readings=draw(st.dictionaries(st.sampled_from(gpus), reading)),
        last=MappingProxyType({NAME: draw(st.sampled_from([*gpus, DeviceID("gone")]))}),
        order=draw(st.dictionaries(st.sampled_from(gpus), st.integers(0, 3))),
    )
    return resource, context, available, must, size


@pytest.mark.parametrize("policy", BUILT_IN)
@settings(max_examples=60, deadline=None)
@given(question=questions(), dice=st.randoms(use_true_random=False))
def test_an_answer_has_the_size_the_must_include_and_nothing_else(
    policy: str, question: Question, dice: random.Random
) -> None:
    resource, context, available, must, size = question
    asked = Preference(available=frozenset(available), must_include=frozenset(must), size=size)
    answer = prefer(resource, asked, context, BUILT_IN[policy])
    assert len(answer) == len(set(answer)) == min(size, len(available))
    assert set(must) <= set(answer) <= set(available)
    dice.shuffle(available)
    dice.shuffle(must)
    again = Preference(available=frozenset(available), must_include=frozenset(must), size=size)
    assert prefer(resource, again, context, BUILT_IN[policy]) == answer


@pytest.mark.parametrize("policy", BUILT_IN)
@settings(max_examples=40, deadline=None)
@given(question=questions())
def test_a_policy_itself_answers_in_full_and_is_not_topped_up(
    policy: str, question: Question
) -> None:
    resource, context, available, must, size = question
    listed = {entry.id for entry in resource.devices}
    known = tuple(i for i in available if i in listed)
    wanted = tuple(i for i in must if i in listed)
    asked = Preference(available=frozenset(known), must_include=frozenset(wanted), size=size)
    answer = BUILT_IN[policy](resource, asked, context)
    assert len(answer) == len(set(answer)) == min(size, len(known))
    assert set(wanted) <= set(answer)


@pytest.mark.parametrize("policy", BUILT_IN)
@pytest.mark.parametrize(
    ("available", "must", "size", "answer"),
    [
        pytest.param((), (), 0, (), id="nothing of nothing"),
        pytest.param(("g00",), (), 0, (), id="size 0"),
        pytest.param(("g00", "g01"), (), 2, ("g00", "g01"), id="all"),
        pytest.param(("g00", "g01"), (), 5, ("g00", "g01"), id="more than there are"),
        pytest.param(("g00", "g01", "g02"), ("g02",), 1, ("g02",), id="must is all"),
        pytest.param(("g00", "g01"), ("g01", "g00"), 1, ("g00",), id="must is too much"),
        pytest.param(("new", "g05"), (), 1, ("g05",), id="listed before unlisted"),
        pytest.param(("g03", "g03"), ("g03",), 1, ("g03",), id="told twice"),
        pytest.param(("g00",), ("g03",), 2, ("g00", "g03"), id="must not in available"),
    ],
)
def test_a_question_at_the_edge_has_an_answer(
    policy: str,
    available: tuple[str, ...],
    must: tuple[str, ...],
    size: int,
    answer: tuple[str, ...],
) -> None:
    assert BOXES[0].ask(size, available, must, policy=policy) == answer
