"""The plan of MIG: published layouts of each product, what stays, what is refused and why."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.provision.planner import plan_gpu, plan_node
from deviceplugin.provision.section import Layout, Selector
from deviceplugin.provision.values import Place, Plan, Planned
from deviceplugin.vendor.partitions import Instance, Mig, PartitionedGpu
from tests.provision.model import after, assert_apart
from tests.provision.products import CASES, PRODUCTS, layouts, product


def mig_of(gpu: PartitionedGpu) -> Mig:
    assert gpu.mig is not None
    return gpu.mig


def planned(gpu: PartitionedGpu, wish: Mapping[str, int], plan: Plan | None = None) -> Planned:
    return plan_gpu(gpu, Layout(mig=wish), plan or Plan())


def cut(gpu: PartitionedGpu, *places: Place) -> PartitionedGpu:
    """The GPU with these instances, in MIG mode."""
    mig = mig_of(gpu)
    sizes = {profile.name: profile.size for profile in mig.profiles}
    instances = tuple(
        Instance(profile=name, start=start, size=sizes[name]) for name, start in places
    )
    return replace(gpu, mig=replace(mig, enabled=True, instances=instances))


def ours(gpu: PartitionedGpu, **held: str) -> Plan:
    """All instances are ours; `held` by their starts, as s0='pod'."""
    places = {one.start: (one.profile, one.start) for one in mig_of(gpu).instances}
    return Plan(
        made=frozenset(places.values()),
        held={places[int(key[1:])]: holder for key, holder in held.items()},
    )


def places(planned: Planned) -> list[tuple[str, str, int]]:
    return [(step.verb.value, step.name, step.number) for step in planned.steps]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_each_published_layout_is_made_and_taken_down(name: str, layout: str) -> None:
    gpu, wish = product(name), layouts(name)[layout]
    plan = planned(gpu, wish)
    assert plan.state == "change", plan.reason
    made = after(gpu, plan.steps)
    assert Counter(one.profile for one in mig_of(made).instances) == Counter(wish)
    assert planned(made, wish, ours(made)).state == "as-wanted"
    down = planned(made, {}, ours(made))
    assert mig_of(after(made, down.steps)).instances == ()


BALANCED = {
    "A30": {"2g.12gb": [0], "1g.6gb": [2, 3]},
    "A100-40GB": {"3g.20gb": [4], "2g.10gb": [0], "1g.5gb": [2, 3]},
    "H200": {"3g.71gb": [4], "2g.35gb": [0], "1g.18gb": [2, 3]},
    "B200": {"3g.90gb": [4], "2g.45gb": [0], "1g.23gb": [2, 3]},
}


@pytest.mark.parametrize("name", BALANCED)
def test_the_balanced_layout_has_these_places(name: str) -> None:
    gpu = product(name)
    found: dict[str, list[int]] = {}
    for one in mig_of(after(gpu, planned(gpu, layouts(name)["all-balanced"]).steps)).instances:
        found.setdefault(one.profile, []).append(one.start)
    assert found == BALANCED[name]


def test_one_small_instance_leaves_the_largest_profile_that_can_be_left() -> None:
    gpu = product("A100-40GB")
    (step,) = planned(gpu, {"1g.5gb": 1}).steps
    assert step.number == 6  # 4g at 0 and 2g at 4 can still be made


def test_a_second_one_goes_beside_the_first() -> None:
    gpu = cut(product("H100-80GB"), ("1g.10gb", 6))
    (step,) = planned(gpu, {"1g.10gb": 2}, ours(gpu)).steps
    assert step.number in {4, 5}  # and not into the half that is free


def test_instances_that_are_wanted_stay() -> None:
    gpu = cut(product("H200"), ("3g.71gb", 0), ("1g.18gb", 4))
    plan = planned(gpu, {"3g.71gb": 1, "2g.35gb": 1}, ours(gpu))
    assert places(plan) == [("destroy", "1g.18gb", 4), ("create", "2g.35gb", 4)]


def test_one_in_the_way_of_the_others_is_made_again_elsewhere() -> None:
    gpu = cut(product("H200"), ("1g.18gb", 2))
    plan = planned(gpu, {"1g.18gb": 1, "4g.71gb": 1}, ours(gpu))
    assert places(plan)[0] == ("destroy", "1g.18gb", 2)
    made = mig_of(after(gpu, plan.steps)).instances
    assert [(one.profile, one.start) for one in made] == [("1g.18gb", 6), ("4g.71gb", 0)]


def test_half_an_instance_is_no_instance() -> None:
    gpu = cut(product("H200"), ("1g.18gb", 6))
    (one,) = mig_of(gpu).instances
    broken = replace(gpu, mig=replace(mig_of(gpu), instances=(replace(one, whole=False),)))
    plan = planned(broken, {"1g.18gb": 1}, ours(gpu))
    assert [word for word, _, _ in places(plan)] == ["destroy", "create"]


REFUSED = [
    ("H200", {"1g.5gb": 1}, "1g.5gb is no profile of this NVIDIA H200; it has 1g.18gb, "),
    ("H200", {"1g.18gb": 8}, "8 of 1g.18gb do not fit: this NVIDIA H200 has room for 7"),
    ("H200", {"1g.18gb+me": 2}, "2 of 1g.18gb+me do not fit: this NVIDIA H200 has room for 1"),
    ("H200", {"4g.71gb": 1, "3g.71gb": 2}, "do not fit on this NVIDIA H200: no placement has room"),
    (
        "H200",
        {"7g.141gb": 1, "1g.18gb": 1},
        "do not fit on this NVIDIA H200: no placement has room",
    ),
    ("A30", {"2g.12gb": 2, "1g.6gb": 1}, "do not fit on this NVIDIA A30: no placement has room"),
]


@pytest.mark.parametrize(("name", "wish", "reason"), REFUSED)
def test_what_is_impossible_is_refused_with_the_reason(
    name: str, wish: Mapping[str, int], reason: str
) -> None:
    plan = planned(product(name), wish)
    assert (plan.state, plan.steps) == ("refused", ())
    assert reason in plan.reason


def test_a_mode_that_needs_a_reset_is_refused_with_the_way_to_it() -> None:
    gpu = product("A100-40GB")
    off = replace(gpu, mig=replace(mig_of(gpu), enabled=False))
    assert "only by a reset of the GPU or a reboot" in planned(off, {"1g.5gb": 1}).reason
    whole = plan_gpu(gpu, Layout(none=True), Plan())
    assert "leaves it only by a reset" in whole.reason


def test_hopper_changes_its_mode_at_once_when_nobody_is_on_it() -> None:
    gpu = product("H100-80GB")
    assert places(planned(gpu, {}))[:1] == [("mig_mode", "", 1)]
    busy = planned(replace(gpu, users=("process 7",)), {"1g.10gb": 1})
    assert (busy.state, busy.reason) == ("pending", "the GPU is in use by process 7")
    cut_up = cut(gpu, ("1g.10gb", 6))
    plan = plan_gpu(cut_up, Layout(none=True), ours(cut_up))
    assert places(plan) == [("destroy", "1g.10gb", 6), ("mig_mode", "", 0)]


def test_a_vgpu_keeps_the_instances_it_has() -> None:
    gpu = product("H100-80GB")
    guest = replace(gpu, mig=replace(mig_of(gpu), fixed="this is a vGPU"))
    assert planned(guest, {"1g.10gb": 1}).reason == "this is a vGPU"


def test_an_instance_that_a_pod_holds_is_waited_for() -> None:
    gpu = cut(product("H200"), ("1g.18gb", 6))
    plan = planned(gpu, {"7g.141gb": 1}, ours(gpu, s6="default/job"))
    assert plan.state == "pending"
    assert plan.reason == "1g.18gb at 6 is held by default/job"


def test_an_instance_with_a_process_in_it_is_waited_for() -> None:
    gpu = cut(product("H200"), ("1g.18gb", 6))
    (one,) = mig_of(gpu).instances
    used = replace(gpu, mig=replace(mig_of(gpu), instances=(replace(one, users=("process 9",)),)))
    assert planned(used, {}, ours(gpu)).reason == "1g.18gb at 6 is held by process 9"


def test_what_others_made_is_destroyed_only_where_it_is_allowed() -> None:
    gpu = cut(product("H200"), ("1g.18gb", 6))
    assert "was made by somebody else" in planned(gpu, {}).reason
    assert planned(gpu, {"1g.18gb": 1}).state == "as-wanted"
    adopted = planned(gpu, {}, Plan(adopt=True))
    assert places(adopted) == [("destroy", "1g.18gb", 6)]


def test_the_first_layout_that_selects_a_gpu_counts() -> None:
    gpu = product("H200")
    wanted = [
        Layout(select=Selector(product="a100"), mig={"1g.5gb": 7}),
        Layout(select=Selector(device=("0x233510de",), index=(0, 3)), mig={"1g.18gb": 1}),
        Layout(mig={"7g.141gb": 1}),
    ]
    (one,) = plan_node([gpu], wanted, {}, {})
    assert one.wish == "1×1g.18gb"
    assert plan_node([gpu], wanted[:1], {}, {}) == ()


WISHES = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 6), st.integers(0, 3), max_size=3),
        st.sets(st.integers(0, 6), max_size=2),
        st.booleans(),
    ),
    max_size=5,
)


@given(st.sampled_from(sorted(PRODUCTS)), WISHES)
def test_no_held_instance_goes_and_no_places_overlap(
    name: str, wishes: list[tuple[dict[int, int], set[int], bool]]
) -> None:
    gpu, made = product(name), frozenset[Place]()
    names = [profile.name for profile in mig_of(gpu).profiles]
    for wish, held_at, foreign in wishes:
        there = mig_of(gpu).instances
        held = {(one.profile, one.start): "pod" for one in there if one.start in held_at}
        known = frozenset(sorted(made)[1:]) if foreign else made
        counts = {names[index % len(names)]: count for index, count in wish.items()}
        plan = planned(gpu, counts, Plan(made=known, held=held))
        before = {(one.profile, one.start) for one in there}
        gpu = after(gpu, plan.steps)
        now = {(one.profile, one.start) for one in mig_of(gpu).instances}
        assert_apart(mig_of(gpu).instances)
        assert set(held) <= now
        assert before - known <= now
        made = frozenset(now)
        if plan.state == "change":
            found = Counter(one.profile for one in mig_of(gpu).instances)
            assert found == Counter({name: count for name, count in counts.items() if count})
