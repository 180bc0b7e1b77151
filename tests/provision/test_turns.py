"""Each virtual function's part of the GPU's time: the plan, and the files that it writes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.provision.held import holders_of, touched
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_gpu
from deviceplugin.provision.report import plan_document, plan_text
from deviceplugin.provision.section import Layout, VirtualFunctions
from deviceplugin.provision.transaction import Transaction
from deviceplugin.provision.values import Outcome, Plan, Planned
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor.partitions import PartitionedGpu, Verb
from deviceplugin.vendors.intel.partitioning import IntelPartitioner

GPU = replace(B60, total_vfs=4)
PROFILE = f"sys/bus/pci/devices/{GPU.address}/sriov_admin/vf{{}}/profile/{{}}"


class Node:
    """A GPU below a tree, and the driver that answers writes."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "root", folder / "state"
        write_intel_node(self.root, GPU)
        self.kernel = Kernel(self.root, intel=(GPU,))
        self.written: list[str] = []

    def write(self, path: str, text: str) -> None:
        self.written.append(f"{path.removeprefix(f'/sys/bus/pci/devices/{GPU.address}/')}={text}")
        self.kernel.write(path, text)

    @property
    def hands(self) -> IntelPartitioner:
        return IntelPartitioner(Host(self.root), self.write)

    def gpu(self) -> PartitionedGpu:
        (gpu,) = self.hands.read()
        return gpu

    def plan(self, count: int, compute: str | None, memory: str | None = None) -> Planned:
        wish = VirtualFunctions(count=count, compute=compute, memory=memory)
        return plan_gpu(self.gpu(), Layout(virtual_functions=wish), Plan())

    def make(self, count: int, compute: str | None, memory: str | None = None) -> Outcome:
        planned = self.plan(count, compute, memory)
        assert planned.state == "change", planned.reason
        journal = Journal(self.state, "boot")
        return Transaction(journal, self.hands, lambda _: ()).run(planned.steps)

    def files(self, name: str) -> Sequence[int]:
        paths = [self.root / PROFILE.format(number, name) for number in range(1, 5)]
        return [int(path.read_text()) for path in paths]

    def turns(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.files("exec_quantum_ms"), self.files("preempt_timeout_us")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_each_function_gets_its_turn_and_twice_that_to_give_the_gpu_up(node: Node) -> None:
    assert node.make(2, "30%", "4GiB").state == "done"
    assert node.turns() == ([30, 30, 0, 0], [60000, 60000, 0, 0])
    assert node.plan(2, "30%", "4GiB").state == "as-wanted"
    numvfs = node.written.index("sriov_numvfs=2")
    assert numvfs < node.written.index("sriov_admin/vf1/profile/exec_quantum_ms=30")
    assert not any("vf3/profile/exec_quantum_ms" in one for one in node.written)


def test_a_turn_is_never_shorter_than_those_of_intels_profiles(node: Node) -> None:
    assert node.make(4, "1%").state == "done"
    assert node.turns() == ([4] * 4, [8000] * 4)


def test_another_part_alone_is_set_while_pods_have_the_functions(node: Node) -> None:
    node.make(2, "50%")
    write_tree(node.root, "/proc/77/fd/3 -> /dev/dri/renderD129\n")
    node.written.clear()
    planned = node.plan(2, "25%")
    assert [step.verb for step in planned.steps] == [Verb.QUANTUM, Verb.PREEMPTION]
    assert touched(planned.gpu, planned.steps) == ((), frozenset())
    assert [holders_of(planned.gpu, {}, step) for step in planned.steps] == [(), ()]
    assert node.make(2, "25%").state == "done"
    assert node.turns() == ([25, 25, 0, 0], [50000, 50000, 0, 0])
    assert not any("numvfs" in one for one in node.written)
    assert node.plan(3, "25%").state == "pending"


def test_without_a_part_turns_stay_until_the_functions_change(node: Node) -> None:
    node.make(2, "50%")
    assert node.plan(2, None).state == "as-wanted"
    assert node.make(4, None).state == "done"
    assert node.turns() == ([0] * 4, [0] * 4)


def test_functions_that_go_leave_no_turn_behind(node: Node) -> None:
    node.make(2, "50%")
    planned = plan_gpu(node.gpu(), Layout(none=True), Plan())
    assert Transaction(Journal(node.state, "boot"), node.hands, lambda _: ()).run(
        planned.steps
    ) == Outcome(state="done")
    assert node.turns() == ([0] * 4, [0] * 4)


@pytest.mark.parametrize("forgets", [False, True], ids=["driver keeps turns", "driver forgets"])
@pytest.mark.parametrize("file", ["exec_quantum_ms", "preempt_timeout_us"])
def test_what_the_firmware_refuses_is_taken_back_with_all_before_it(
    node: Node, file: str, *, forgets: bool
) -> None:
    node.kernel.forgets = forgets
    node.make(2, None)
    for number, (quantum, timeout) in enumerate([(10, 500), (20, 700)], 1):  # set by hand
        node.kernel.write(f"/{PROFILE.format(number, 'exec_quantum_ms')}", str(quantum))
        node.kernel.write(f"/{PROFILE.format(number, 'preempt_timeout_us')}", str(timeout))
    write = node.write

    def refuse(path: str, text: str) -> None:
        """Turns that are new, not those from before."""
        node.kernel.refused = frozenset({file} if text in ("25", "50000") else ())
        write(path, text)

    hands = IntelPartitioner(Host(node.root), refuse)
    steps = node.plan(4, "25%").steps
    outcome = Transaction(Journal(node.state, "boot"), hands, lambda _: ()).run(steps)
    assert outcome.state == "undone"
    assert f"vf1/profile/{file}: Input/output error" in outcome.reason
    functions = node.gpu().functions
    assert functions is not None
    assert functions.count == 2
    assert node.turns() == ([10, 20, 0, 0], [500, 700, 0, 0])


def test_a_turn_that_is_not_there_when_it_is_read_back_is_a_failure(node: Node) -> None:
    def lose(path: str, text: str) -> None:
        node.write(path, "7" if text == "25" else text)

    hands = IntelPartitioner(Host(node.root), lose)
    steps = node.plan(4, "25%").steps
    outcome = Transaction(Journal(node.state, "boot"), hands, lambda _: ()).run(steps)
    assert outcome.state == "undone"
    assert "was taken and is not there" in outcome.reason
    assert node.turns() == ([0] * 4, [0] * 4)


def test_turns_set_by_hand_that_differ_are_made_equal(node: Node) -> None:
    node.make(4, "25%")
    node.kernel.write(f"/{PROFILE.format(3, 'exec_quantum_ms')}", "64")
    assert node.make(4, "25%").state == "done"
    assert node.turns()[0] == [25] * 4


@pytest.mark.parametrize("name", ["exec_quantum_ms", "preempt_timeout_us"])
@pytest.mark.parametrize("text", [None, "tiles differ"], ids=["absent", "unreadable"])
def test_a_driver_without_the_files_is_refused_with_the_reason(
    node: Node, name: str, text: str | None
) -> None:
    path = node.root / PROFILE.format(3, name)
    path.unlink()
    if text is not None:
        path.write_text(text)
    planned = node.plan(4, "25%")
    assert (planned.state, planned.steps) == ("refused", ())
    assert "exec_quantum_ms and preempt_timeout_us that can be read" in planned.reason
    assert planned.reason.endswith("leave compute away")
    assert node.plan(4, None).state == "change"


def test_a_plan_tells_the_turns(node: Node) -> None:
    text = plan_text(plan_document([node.plan(4, "25%")], {}))
    assert "4 virtual functions with 25% of the time each" in text
    assert "2. turns of 25 ms for each of 4 functions" in text
    assert "3. preemption of 50000 us for each of 4 functions" in text
    node.make(4, "25%")
    assert "1. turns of functions without limit" in plan_text(
        plan_document([node.plan(2, None)], {})
    )


def test_the_driver_refuses_what_is_no_number(node: Node) -> None:
    with pytest.raises(VendorError, match="Invalid argument"):
        node.kernel.write(f"/{PROFILE.format(1, 'exec_quantum_ms')}", "-1")
