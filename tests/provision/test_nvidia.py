"""MIG through the real pynvml on the double: each published layout is made and taken down."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import LibraryError, VendorError
from deviceplugin.host import Host
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_node
from deviceplugin.provision.section import Layout
from deviceplugin.provision.transaction import Transaction
from deviceplugin.vendor.partitions import Mig, Partitioner, Step, Verb
from deviceplugin.vendors.nvidia import SECTIONS
from deviceplugin.vendors.nvidia.partitioning import partitioner
from tests.fakes.nvml import (
    Gpu,
    NvmlDouble,
    Process,
    Scenario,
    a30,
    a100_40gb,
    a100_80gb,
    b200,
    h100_80gb,
    h200,
)
from tests.provision.products import layouts

CARDS: dict[str, Callable[[int], Gpu]] = {
    "A30": a30,
    "A100-40GB": a100_40gb,
    "A100-80GB": a100_80gb,
    "H100-80GB": h100_80gb,
    "H200": h200,
    "B200": b200,
}


class Node:
    """A node with one GPU, and the program's hands on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.journal = Journal(folder / "state", "boot")
        self.hands: Partitioner = partitioner(Host(self.root), decode_sections({}, SECTIONS))
        self.double = NvmlDouble(self.root)

    def has(self, gpu: Gpu) -> None:
        self.double.write(Scenario(gpus=(gpu,)))

    @property
    def mig(self) -> Mig:
        (gpu,) = self.hands.read()
        assert gpu.mig is not None
        return gpu.mig

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(one.profile, one.start) for one in self.mig.instances]

    def plan(self, layout: Layout) -> tuple[Step, ...]:
        (gpu,) = self.hands.read()
        made = {gpu.id: self.journal.places(gpu.id)}
        (planned,) = plan_node([gpu], [layout], made, {})
        assert planned.state in {"change", "as-wanted"}, planned.reason
        return planned.steps

    def answer(self, layout: Layout) -> tuple[str, str]:
        """The plan's state and reason."""
        (planned,) = plan_node(self.hands.read(), [layout], {}, {})
        return planned.state, planned.reason

    def make(self, layout: Layout) -> str:
        outcome = Transaction(self.journal, self.hands, lambda _: ()).run(self.plan(layout))
        return f"{outcome.state} {outcome.reason}".strip()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.hands.close()


@pytest.mark.parametrize("card", CARDS)
def test_each_published_layout_is_made_and_taken_down(card: str, node: Node) -> None:
    gpu = CARDS[card](0)
    on = int((gpu.architecture or 0) < 9)  # before Hopper the mode is there first
    node.has(replace(gpu, mig_current=on, mig_pending=on))
    for wish in layouts(card).values():
        assert node.make(Layout(mig=wish)) == "done"
        assert node.plan(Layout(mig=wish)) == ()
        found = [profile for profile, _ in node.places]
        assert {name: found.count(name) for name in found} == wish
        assert sorted(node.journal.places(gpu.uuid)) == sorted(node.places)
    assert node.make(Layout(mig={})) == "done"
    assert node.places == []
    assert node.mig.enabled


def impossible(card: str) -> Iterator[tuple[dict[str, int], str]]:
    """One more of each profile than there is room for, what has no place beside the largest, and
    what another product has; with a part of the reason."""
    published = [wish for name, wish in layouts(card).items() if name != "all-balanced"]
    for wish in published:
        ((profile, most),) = wish.items()
        yield {profile: most + 1}, f"{most + 1} of {profile} do not fit"
    smallest, largest = next(iter(published[0])), next(iter(published[-1]))
    yield {largest: 1, smallest: 1}, "no placement has room for all"
    yield {next(iter(published[2])): 1, largest: 1}, "no placement has room for all"
    yield {"9g.999gb": 1}, f"9g.999gb is no profile of this NVIDIA {card.partition('-')[0]}"


@pytest.mark.parametrize("card", CARDS)
def test_impossible_layouts_are_refused_with_the_reason(card: str, node: Node) -> None:
    gpu = CARDS[card](0)
    node.has(replace(gpu, mig_current=1, mig_pending=1))
    for wish, reason in impossible(card):
        state, told = node.answer(Layout(mig=wish))
        assert state == "refused"
        assert reason in told
    assert node.places == []


@pytest.mark.parametrize("card", CARDS)
def test_the_mode_is_changed_at_once_or_refused_with_the_way_to_it(card: str, node: Node) -> None:
    gpu = CARDS[card](0)
    for on, layout in ((0, Layout(mig={})), (1, Layout(none=True))):
        node.has(replace(gpu, mig_current=on, mig_pending=on))
        if (gpu.architecture or 0) >= 9:
            assert node.make(layout) == "done"
            assert node.mig.enabled is not bool(on)
        else:
            state, told = node.answer(layout)
            assert state == "refused"
            assert "only by a reset of the GPU or a reboot" in told


@pytest.mark.parametrize("card", ["H100-80GB", "H200", "B200"])
def test_hopper_and_later_go_into_mig_mode_and_out_of_it(card: str, node: Node) -> None:
    node.has(CARDS[card](0))
    wish = layouts(card)["all-balanced"]
    assert node.make(Layout(mig=wish)) == "done"
    assert node.make(Layout(none=True)) == "done"
    assert not node.mig.enabled


def test_the_profiles_are_those_of_the_published_table(node: Node) -> None:
    node.has(h200(0))
    names = {profile.name: profile.starts for profile in node.mig.profiles}
    assert names == {
        "1g.18gb": (0, 1, 2, 3, 4, 5, 6),
        "1g.18gb+me": (0, 1, 2, 3, 4, 5, 6),
        "1g.35gb": (0, 2, 4, 6),
        "2g.35gb": (0, 2, 4),
        "3g.71gb": (0, 4),
        "4g.71gb": (0,),
        "7g.141gb": (0,),
    }


def test_a_mode_that_is_not_activated_is_an_error_and_is_set_back(node: Node) -> None:
    node.has(a100_40gb(0))
    (gpu,) = node.hands.read()
    with pytest.raises(LibraryError, match="not activated"):
        node.hands.apply(Step(gpu=gpu.id, verb=Verb.MIG_MODE, number=1))
    assert not node.mig.pending


def test_a_gpu_with_a_process_is_not_switched(node: Node) -> None:
    node.has(h200(0, processes=(Process(pid=7, memory=1),)))
    (gpu,) = node.hands.read()
    assert gpu.users == ("process 7",)
    with pytest.raises(LibraryError):
        node.hands.apply(Step(gpu=gpu.id, verb=Verb.MIG_MODE, number=1))


def test_what_fails_is_taken_back(node: Node) -> None:
    node.has(h200(0))
    assert node.make(Layout(mig={"1g.18gb": 2})) == "done"
    before = node.places
    node.double.write(replace(node.double.scenario, gpus=(h200(0, mig_current=1, mig_pending=1),)))
    assert node.places == []  # as after a reset that nobody asked for
    assert before
    node.double.fail("nvmlGpuInstanceCreateComputeInstance", 23)
    outcome = node.make(Layout(mig={"3g.71gb": 1}))
    assert outcome.startswith("undone nvmlGpuInstanceCreateComputeInstance")
    assert node.places == []
    assert node.journal.record.begun is None


def test_half_an_instance_is_completed_by_making_it_again(node: Node) -> None:
    node.has(h200(0))
    assert node.make(Layout(mig={"1g.18gb": 1})) == "done"
    (gpu,) = node.hands.read()
    scenario = node.double.folder / "nvml-scenario"
    lines = scenario.read_text().splitlines(keepends=True)
    scenario.write_text("".join(line for line in lines if not line.startswith("mig ")))
    assert [one.whole for one in node.mig.instances] == [False]
    step = Step(gpu=gpu.id, verb=Verb.CREATE, name="1g.18gb", number=6)
    assert not node.hands.is_done(step)
    node.hands.apply(step)
    assert [one.whole for one in node.mig.instances] == [True]


def test_a_step_of_another_vendor_is_refused(node: Node) -> None:
    node.has(h200(0))
    (gpu,) = node.hands.read()
    with pytest.raises(VendorError, match="knows no compute_mode"):
        node.hands.apply(Step(gpu=gpu.id, verb=Verb.COMPUTE, name="CPX"))
