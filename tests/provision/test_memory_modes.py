"""Memory modes: one change of all GPUs of the node, on trees with a small kernel."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import convert
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.provision.foreign import DcmProfile, dcm_layouts
from deviceplugin.provision.held import holders_of, names_of, touched
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.planner import plan_node
from deviceplugin.provision.protocol import Answer, Apply, Look, Recover
from deviceplugin.provision.report import plan_document, plan_text
from deviceplugin.provision.section import Layout, Selector
from deviceplugin.provision.values import Held, Outcome, Planned
from deviceplugin.testing.amd import MI210, MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor.partitions import PartitionedGpu, Verb
from deviceplugin.vendors.amd.partitioning import NOT_ALLOWED, AmdPartitioner

FIRST, SECOND, OTHER = "0000:05:00.0", "0000:27:00.0", "0000:45:00.0"
GPUS = (
    SimulatedGpu(address=FIRST, model=MI300X, hive=7),
    SimulatedGpu(address=SECOND, model=MI300X, hive=7),
    SimulatedGpu(address=OTHER, model=MI210),  # of the same driver, without modes
)
CUT, WHOLE = Layout(compute="CPX", memory="NPS4"), Layout(none=True)


class Node:
    """GPUs below a tree, the kernel that answers, and the privileged process."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "root", folder / "state"
        write_amd_node(self.root, GPUS)
        self.kernel = Kernel(self.root, amd=GPUS)
        self.loads = 0
        self.start()

    def start(self, *, reloads: bool = True) -> None:
        self.hands = AmdPartitioner(Host(self.root), self.kernel.write, self, patience_s=0)
        if reloads:
            self.hands.allow_reload()
        self.helper = Helper({"amd": self.hands}, Around(state_dir=self.state, boot="boot"))

    def check(self) -> None:
        pass

    def unload(self) -> None:
        self.kernel.unload()

    def load(self) -> None:
        self.loads += 1
        self.kernel.load()

    def plan(self, *layouts: Layout) -> dict[str, Planned]:
        planned = plan_node(self.hands.read(), layouts, {}, {})
        return {one.gpu.id: one for one in planned}

    def apply(self, gpu: str, *layouts: Layout, held: Sequence[Held] = ()) -> Answer:
        answer = self.helper.answer(Look(layouts=layouts))
        steps = next(one.steps for one in answer.planned if one.gpu.id == gpu)
        request = Apply(gpu=gpu, layout=layouts[0], layouts=layouts, steps=steps, held=tuple(held))
        return self.helper.answer(request)

    def modes(self) -> Sequence[tuple[str, str | None]]:
        gpus = (gpu.modes for gpu in self.hands.read())
        return [(modes.compute, modes.memory) for modes in gpus if modes is not None]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def of(address: str, **modes: str) -> Layout:
    return Layout(select=Selector(address=address), **modes)  # type: ignore[arg-type]  # by name


def test_all_gpus_change_at_once_with_one_load_of_the_driver(node: Node) -> None:
    planned = node.plan(CUT)
    assert [planned[one].state for one in (FIRST, SECOND, OTHER)] == [
        "change",
        "pending",
        "refused",
    ]
    assert planned[SECOND].reason.endswith(f"changes at once, with that of {FIRST}")
    assert node.apply(FIRST, CUT).outcome == Outcome(state="done")
    assert (node.modes(), node.loads) == ([("CPX", "NPS4")] * 2, 1)
    assert node.plan(CUT)[SECOND].state == "as-wanted"
    assert node.apply(FIRST, WHOLE).outcome == Outcome(state="done")
    assert (node.modes(), node.loads) == ([("SPX", "NPS1")] * 2, 2)


def test_compute_modes_follow_the_memory_mode_as_each_layout_says(node: Node) -> None:
    layouts = (of(FIRST, compute="QPX", memory="NPS4"), of(SECOND, memory="NPS4"))
    text = plan_text(plan_document(list(node.plan(*layouts).values()), {}))
    assert "memory mode NPS1 to NPS4: the driver of 3 GPUs is loaded again, then 1 in QPX" in text
    assert node.apply(FIRST, *layouts).outcome == Outcome(state="done")
    assert node.modes() == [
        ("QPX", "NPS4"),
        ("CPX", "NPS4"),
    ]  # the driver's own where none is named


def test_without_the_operators_word_it_is_refused_with_the_way(node: Node) -> None:
    node.start(reloads=False)
    planned = node.plan(CUT)[FIRST]
    assert (planned.state, planned.reason) == ("refused", NOT_ALLOWED)
    assert "no layout gives it to" not in planned.reason
    node.start()
    steps = node.plan(CUT)[FIRST].steps
    node.start(reloads=False)
    with pytest.raises(VendorError, match="reload-drivers"):
        node.hands.apply(steps[0])
    assert node.modes() == [("SPX", "NPS1")] * 2


@pytest.mark.parametrize(
    ("layouts", "reason"),
    [
        (
            (of(FIRST, memory="NPS4"),),
            f"NPS4 is for all GPUs of the node at once, and no layout gives it to {SECOND}",
        ),
        (
            (of(FIRST, memory="NPS4"), of(SECOND, memory="NPS1")),
            f"give {SECOND} the same memory mode, which is NPS1 by its layout",
        ),
        (
            (of(FIRST, memory="NPS4"), of(SECOND, compute="DPX", memory="NPS4")),
            f"DPX needs the memory mode NPS1 or NPS2, and {SECOND} would have NPS4",
        ),
        (
            (of(FIRST, compute="SPX", memory="NPS4"), of(SECOND, memory="NPS4")),
            f"SPX needs the memory mode NPS1, and {FIRST} would have NPS4",
        ),
        ((Layout(memory="NPS2"),), "NPS2 is no memory mode of this"),
    ],
    ids=["not all", "not the same", "not both", "not together", "not offered"],
)
def test_what_does_not_go_is_refused(node: Node, layouts: tuple[Layout, ...], reason: str) -> None:
    planned = node.plan(*layouts)[FIRST]
    assert planned.state == "refused"
    assert reason in planned.reason


def test_a_gpu_that_is_as_wanted_already_needs_no_layout(node: Node) -> None:
    node.apply(FIRST, CUT)
    assert node.plan(of(FIRST, compute="QPX", memory="NPS4"))[FIRST].state == "change"


@pytest.mark.parametrize(
    "node_file",
    ["/dev/dri/renderD128", "/dev/kfd", f"{OTHER} of the same driver"],
    ids=["a GPU", "what all share", "a GPU without modes"],
)
def test_whoever_uses_any_gpu_of_the_driver_is_waited_for(node: Node, node_file: str) -> None:
    if node_file.startswith("/"):
        file = node_file
    else:
        folder = node.root / "sys/bus/pci/devices" / OTHER / "drm"
        file = "/dev/dri/" + next(one.name for one in folder.iterdir() if "render" in one.name)
    (step,) = node.plan(CUT)[FIRST].steps
    write_tree(node.root, f"/proc/77/fd/3 -> {file}\n")
    planned = node.plan(CUT)
    assert planned[FIRST].state == "pending"
    assert "process 77" in planned[FIRST].reason
    assert planned[SECOND].reason == planned[FIRST].reason
    found = [name for gpu in node.hands.read() for name in holders_of(gpu, {}, step)]
    assert "process 77" in found


def test_the_parts_of_a_gpu_are_looked_at_too(node: Node) -> None:
    node.apply(FIRST, CUT)
    write_tree(node.root, "/proc/77/fd/3 -> /dev/dri/renderD131\n")  # the fourth of the first
    assert node.plan(WHOLE)[FIRST].state == "pending"


def test_what_a_pod_has_of_another_gpu_is_not_taken(node: Node) -> None:
    held = [Held(gpu=SECOND, device=SECOND, holder="default/pod")]
    assert "default/pod" in node.apply(FIRST, CUT, held=held).error
    assert (node.modes(), node.loads) == ([("SPX", "NPS1")] * 2, 0)
    assert node.helper.answer(Look(layouts=(CUT,), held=tuple(held))).planned[0].state == "pending"


def test_all_gpus_of_the_change_are_kept(node: Node) -> None:
    planned = node.plan(CUT)[FIRST]
    assert planned.steps[0].verb is Verb.MEMORY
    assert touched(planned.gpu, planned.steps) == ((), frozenset({FIRST, SECOND, OTHER}))
    assert names_of(planned.gpu, planned.steps) == {FIRST, SECOND, OTHER}


def test_a_driver_in_use_stays_and_what_it_was_asked_is_told(node: Node) -> None:
    assert node.kernel.amdgpu is not None
    node.kernel.amdgpu.busy = True
    outcome = node.apply(FIRST, CUT).outcome
    assert outcome is not None
    assert outcome.state == "undone"
    assert "Device or resource busy; the driver may keep what was asked for" in outcome.reason
    assert (node.modes(), node.loads) == ([("SPX", "NPS1")] * 2, 0)
    node.kernel.amdgpu.busy = False
    assert node.apply(FIRST, CUT).outcome == Outcome(state="done")


def test_a_driver_that_does_not_come_back_is_tried_again_at_each_start(node: Node) -> None:
    assert node.kernel.amdgpu is not None
    node.kernel.amdgpu.unable = True
    answer = node.apply(FIRST, CUT)
    assert answer.outcome is not None
    assert answer.outcome.state == "stuck"
    assert answer.begun[0].gpus == {FIRST, SECOND, OTHER}
    assert node.modes() == []
    node.start()
    again = node.helper.answer(Recover()).outcome
    assert again is not None
    assert again.state == "stuck"
    node.kernel.amdgpu.unable = False
    node.start()
    back = node.helper.answer(Recover()).outcome
    assert back is not None
    assert back.state == "undone"
    assert node.modes() == [("SPX", "NPS1")] * 2


def test_a_gpu_that_does_not_come_back_is_named(node: Node) -> None:
    (step,) = node.plan(CUT)[FIRST].steps
    node.load = lambda: None  # type: ignore[method-assign]  # loaded, and no GPU is there
    with pytest.raises(VendorError, match=f"{FIRST}, {SECOND} did not come back with the driver"):
        node.hands.apply(step)


def test_a_compute_mode_that_fails_takes_the_memory_mode_back(node: Node) -> None:
    node.kernel.busy = frozenset({SECOND})
    outcome = node.apply(FIRST, Layout(compute="QPX", memory="NPS4")).outcome
    assert outcome is not None
    assert outcome.state == "undone"
    assert (node.modes(), node.loads) == ([("SPX", "NPS1")] * 2, 2)


def test_a_driver_that_would_not_come_back_stays(node: Node) -> None:
    (step,) = node.plan(CUT)[FIRST].steps

    def check() -> None:
        raise VendorError("another amdgpu")

    node.check = check  # type: ignore[method-assign]  # as a module of a container image
    with pytest.raises(VendorError, match="another amdgpu"):
        node.hands.apply(step)
    assert (node.modes(), node.loads) == ([("SPX", "NPS1")] * 2, 0)


def test_claims_switch_no_modes(node: Node) -> None:
    planned = node.plan(Layout(on_demand=True))[FIRST]
    assert planned.state == "refused"
    assert planned.reason.startswith("on_demand is for MIG: give this")
    assert "pods on other GPUs of the node" in planned.reason


def test_a_gpu_that_tells_no_memory_mode_is_refused_another(node: Node) -> None:
    gpus = [_untold(gpu) for gpu in node.hands.read()]
    (planned, *_) = plan_node(gpus, [Layout(memory="NPS4")], {}, {})
    assert planned.reason.endswith("tells no memory mode")
    (planned, *_) = plan_node(gpus, [Layout(memory="NPS1")], {}, {})
    assert planned.state == "as-wanted"


def _untold(gpu: PartitionedGpu) -> PartitionedGpu:
    return replace(gpu, modes=gpu.modes and replace(gpu.modes, memory=None))


def test_a_profile_of_the_device_config_manager_changes_both_modes(node: Node) -> None:
    share = {"computePartition": "CPX", "memoryPartition": "NPS4", "numGPUsAssigned": 2}
    profile = convert({"profiles": [share], "skippedGPUs": {"ids": [2]}}, DcmProfile)
    assert node.apply(FIRST, *dcm_layouts(profile)).outcome == Outcome(state="done")
    assert (node.modes(), node.loads) == ([("CPX", "NPS4")] * 2, 1)
