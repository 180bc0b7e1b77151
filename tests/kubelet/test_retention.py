"""Ids whose device is gone stay listed for as long as a pod may hold them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.kubelet.retention import Retention, with_tombstones
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.resources.ledger import (
    MISSING_ANSWERS,
    QUIET_S,
    Holder,
    Holding,
    Ledger,
    PodResourcesReply,
)
from deviceplugin.resources.plan import Resources

GPU, FOREIGN = ResourceName("example.com/gpu"), ResourceName("other.com/x")
REPLY_S = 2.0  # from one reply to the next
POD = ("n", "p")


def resources(*ids: str, name: ResourceName = GPU) -> Resources:
    entries = tuple(
        AdvertisedDevice(id=AdvertisedID(i), device=DeviceID(i), health=Health.HEALTHY) for i in ids
    )
    return {name: Resource(name=name, vendor="example", devices=entries)} if ids else {}


class Node:
    """Retention with its ledger, at a time of our own."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.ledger = Ledger(lambda: self.now_s)
        self.retention = Retention(self.ledger)

    def plan(self, *ids: str) -> dict[str, str]:
        self.retention.apply(resources(*ids))
        return self.listed()

    def reply(
        self, *ids: str, resource: ResourceName = GPU, numa_node: int | None = None
    ) -> dict[str, str]:
        """The kubelet answers that one pod holds these ids."""
        self.now_s += REPLY_S
        holder = Holder(namespace=POD[0], pod=POD[1], container="c")
        holdings = tuple(
            Holding(resource=resource, id=AdvertisedID(i), numa_node=numa_node, holder=holder)
            for i in ids
        )
        reply = PodResourcesReply(pods=frozenset({POD} if ids else ()), holdings=holdings)
        self.ledger.observe(reply, self.now_s)
        self.retention.observe()
        return self.listed()

    def name(self, *ids: str) -> None:
        """A request names these ids, and fails."""
        with self.ledger.naming(GPU, map(AdvertisedID, ids)):
            pass

    def listed(self) -> dict[str, str]:
        found = self.retention.listed.value
        return {e.id: e.health.value for r in found.values() for e in r.devices}


def test_a_gone_id_stays_until_two_answers_show_no_holder() -> None:
    node = Node()
    node.plan("a", "b")
    assert node.plan("a") == {"a": "Healthy", "b": "Unhealthy"}
    assert sum(node.retention.kept.values()) == 1
    assert "b" in node.reply()
    assert "b" in node.plan("a")
    assert node.reply() == {"a": "Healthy"}
    assert not node.retention.kept
    assert node.plan("a") == {"a": "Healthy"}
    assert not node.retention.waiting


def test_a_held_id_stays_until_two_answers_after_the_ledger_let_it_go() -> None:
    node = Node()
    node.plan("a")
    for _ in range(5):
        node.reply("a")
        assert node.plan() == {"a": "Unhealthy"}
    assert node.reply() == {"a": "Unhealthy"}
    assert node.ledger.is_held((GPU, AdvertisedID("a")))
    assert node.reply() == {"a": "Unhealthy"}
    assert not node.ledger.is_held((GPU, AdvertisedID("a")))
    assert node.reply() == {}
    assert node.plan() == {}


def test_a_pod_that_is_confirmed_gone_holds_nothing_in_the_answers_that_follow() -> None:
    node = Node()
    node.plan("a")
    node.reply("a")
    node.plan()
    assert node.reply() == {"a": "Unhealthy"}
    node.ledger.pod_gone(*POD)
    assert node.reply() == {"a": "Unhealthy"}
    assert node.reply() == {}


def test_an_id_that_an_allocate_named_lately_stays_although_nobody_seems_to_hold_it() -> None:
    node = Node()
    node.plan("a")
    node.name("a")
    node.plan()
    named_s = node.now_s
    while node.now_s + REPLY_S < named_s + QUIET_S:
        assert node.reply() == {"a": "Unhealthy"}
    assert node.reply() == {}
    assert node.plan() == {}


def test_an_id_that_an_allocate_names_stays_for_as_long_as_it_runs() -> None:
    node = Node()
    node.plan("a")
    with node.ledger.naming(GPU, [AdvertisedID("a")]):
        node.plan()
        node.now_s += 2 * QUIET_S
        for _ in range(5):
            assert node.reply() == {"a": "Unhealthy"}
    node.reply()
    assert node.reply() == {}


def test_a_device_that_comes_back_is_itself_again() -> None:
    node = Node()
    node.plan("a")
    node.plan()
    assert node.plan("a") == {"a": "Healthy"}
    assert not node.retention.waiting


def test_an_id_that_leaves_again_stays_for_two_more_answers() -> None:
    node = Node()
    node.plan("a")
    node.plan()
    node.reply()
    node.plan("a")
    node.plan()
    assert node.reply() == {"a": "Unhealthy"}
    assert node.reply() == {}


def test_an_id_held_since_before_our_time_is_listed_unhealthy() -> None:
    node = Node()
    node.plan("a")
    assert node.reply("old", numa_node=1) == {"a": "Healthy", "old": "Unhealthy"}
    assert node.plan("a") == {"a": "Healthy", "old": "Unhealthy"}
    assert [e.numa_node for e in node.retention.listed.value[GPU].devices] == [None, 1]


def test_an_id_that_the_kubelet_told_of_before_the_first_list_is_in_it() -> None:
    node = Node()
    node.reply("a", "old")
    assert node.listed() == {}
    assert node.plan("a") == {"a": "Healthy", "old": "Unhealthy"}
    for _ in range(3):
        node.reply("a")
    assert node.plan("a") == {"a": "Healthy"}


def test_ids_of_resources_that_are_not_ours_are_none_of_our_business() -> None:
    node = Node()
    node.plan("a")
    assert node.reply("x", resource=FOREIGN) == {"a": "Healthy"}
    assert node.plan("a") == {"a": "Healthy"}


def test_the_list_follows_in_the_step_in_which_the_plan_is_made() -> None:
    node = Node()
    node.retention.apply(resources("a"))
    assert node.listed() == {"a": "Healthy"}


def test_an_id_that_is_gone_is_listed_unhealthy_among_the_others() -> None:
    found = with_tombstones(resources("b"), resources("a", "z"))
    assert [(e.id, e.health.value) for e in found[GPU].devices] == [
        ("a", "Unhealthy"),
        ("b", "Healthy"),
        ("z", "Unhealthy"),
    ]


def test_a_resource_of_nothing_but_gone_ids_stays() -> None:
    assert [e.id for e in with_tombstones({}, resources("z"))[GPU].devices] == ["z"]


def test_an_id_that_moved_is_listed_by_the_old_resource_alone() -> None:
    other = ResourceName("example.com/other")
    planned = {other: replace(resources("z")[GPU], name=other)}
    found = with_tombstones(planned, resources("z"))
    assert [e.id for e in found[GPU].devices] == ["z"]
    assert found[other].devices == ()


IDS = st.sets(st.sampled_from("ab"))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["plan", "reply", "plan", "reply", "name", "reserve", "restart"]), IDS
    ),
    min_size=8,
)


@settings(max_examples=400, deadline=None)
@given(named=IDS, steps=STEPS)
def test_no_id_goes_that_a_pod_may_hold(named: set[str], steps: list[tuple[str, set[str]]]) -> None:
    node = Node()
    node.name(*named)
    answers: list[set[str]] = []
    named_s = dict.fromkeys(named, node.now_s)
    planned: list[str] = []
    before: set[str] = set()
    for step, ids in steps:
        if step == "reply":
            answers.append(ids)
            node.reply(*ids)
        elif step == "plan":
            planned = sorted(ids)
            node.plan(*planned)
        elif step == "restart":
            node.ledger.source_restarted()
        else:
            node.name(*ids)
            named_s |= dict.fromkeys(ids, node.now_s)
            if step == "reserve":
                with node.ledger.reserving(GPU, map(AdvertisedID, ids)):
                    pass
        now = set(node.listed())
        assert set(planned) <= now
        for gone in before - now:
            assert len(answers) >= MISSING_ANSWERS
            assert all(gone not in answer for answer in answers[-MISSING_ANSWERS:])
            assert node.now_s - named_s.get(gone, -QUIET_S) >= QUIET_S
            assert not node.ledger.is_held((GPU, AdvertisedID(gone)), QUIET_S)
        before = now


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_what_nobody_holds_is_gone_in_the_end(steps: list[tuple[str, set[str]]]) -> None:
    node, planned = Node(), set[str]()
    for step, ids in steps:
        if step == "plan":
            node.plan(*ids)
            planned = ids
        elif step == "reply":
            node.reply(*ids)
        elif step == "name":
            node.name(*ids)
        elif step == "restart":
            node.ledger.source_restarted()
    node.now_s += QUIET_S
    for _ in range(2 * MISSING_ANSWERS):
        node.reply()
    assert node.listed() == dict.fromkeys(sorted(planned), "Healthy")
    assert not node.retention.waiting


def test_what_a_later_plan_leaves_as_it_was_is_the_same_object() -> None:
    """Placement has prepared that object, and would build what it prepared in every call."""
    node, other = Node(), resources("x", name=FOREIGN)
    node.retention.apply({**resources("a", "b"), **other})
    node.reply("b")
    node.retention.apply({**resources("a"), **other})
    first = node.retention.listed.value
    assert [e.health.value for e in first[GPU].devices] == ["Healthy", "Unhealthy"]
    node.retention.apply({**resources("a"), **resources("x", "y", name=FOREIGN)})
    second = node.retention.listed.value
    assert second[FOREIGN] != first[FOREIGN]
    assert second[GPU] is first[GPU]
