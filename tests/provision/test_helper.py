"""The privileged process: what it answers, what it refuses, and what it finds at its start."""

import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import pytest

from deviceplugin.config.schema import decode_sections
from deviceplugin.host import Host
from deviceplugin.kubelet.socket import is_listening
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.owners import OWNERS, read_owners
from deviceplugin.provision.protocol import (
    FILE,
    Answer,
    Apply,
    Fit,
    Look,
    NoHelperError,
    Recover,
    ask_helper,
)
from deviceplugin.provision.section import Layout
from deviceplugin.provision.server import serve
from deviceplugin.provision.values import Held, Planned
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia import SECTIONS
from deviceplugin.vendors.nvidia.partitioning import partitioner
from tests.fakes.nvml import NvmlDouble, Scenario, h200

SMALL = Layout(mig={"1g.18gb": 2})
LARGE = Layout(mig={"7g.141gb": 1})


def helper(root: Path, owners: Sequence[str] = (), boot: str = "boot") -> Helper:
    around = Around(state_dir=root / "state", boot=boot, owners=lambda: owners)
    return Helper({"nvidia": partitioner(Host(root), decode_sections({}, SECTIONS))}, around)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    NvmlDouble(tmp_path, scenario=Scenario(gpus=(h200(0),)))
    return tmp_path


def planned(one: Helper, layout: Layout, *held: Held) -> Planned:
    answer = one.answer(Look(layouts=(layout,), held=held))
    assert not answer.error
    return answer.planned[0]


def made(one: Helper, layout: Layout, *held: Held) -> Answer:
    plan = planned(one, layout, *held)
    request = Apply(gpu=plan.gpu.id, layout=layout, steps=plan.steps, held=held)
    return one.answer(request)


def test_a_plan_is_made_and_taken_down(node: Path) -> None:
    one = helper(node)
    answer = made(one, SMALL)
    assert answer.outcome is not None, answer.error
    assert (answer.outcome.state, answer.begun) == ("done", ())
    there = planned(one, SMALL)
    assert there.state == "as-wanted"
    assert there.gpu.mig is not None
    ids = [device for found in there.gpu.mig.instances for device in found.devices]
    assert len({*ids}) == 2
    whole = made(one, Layout(none=True))
    assert whole.outcome is not None
    assert whole.outcome.state == "done"


def test_another_plan_than_the_one_shown_is_not_made(node: Path) -> None:
    one = helper(node)
    plan = planned(one, SMALL)
    request = Apply(gpu=plan.gpu.id, layout=LARGE, steps=plan.steps)
    assert one.answer(request).error == "another plan is needed now"
    assert one.answer(Apply(gpu="GPU-else", layout=SMALL, steps=())).error
    assert planned(one, SMALL).steps == plan.steps


def test_what_a_pod_holds_is_not_destroyed(node: Path) -> None:
    one = helper(node)
    made(one, SMALL)
    gpu = planned(one, SMALL).gpu
    assert gpu.mig is not None
    (device,) = gpu.mig.instances[0].devices
    held = Held(gpu=gpu.address, device=device, holder="default/train")
    plan = planned(one, LARGE, held)
    assert (plan.state, plan.steps) == ("pending", ())
    assert "default/train" in plan.reason
    free = planned(one, LARGE)
    answer = one.answer(Apply(gpu=gpu.id, layout=LARGE, steps=free.steps, held=(held,)))
    assert "default/train" in answer.error


def test_a_device_that_is_held_and_not_known_keeps_all_of_its_gpu(node: Path) -> None:
    one = helper(node)
    made(one, SMALL)
    gpu = planned(one, SMALL).gpu
    held = Held(gpu=gpu.id, device="MIG-of-another-time", holder="default/train")
    assert planned(one, LARGE, held).state == "pending"


def test_a_whole_gpu_that_a_pod_holds_keeps_its_mode(node: Path) -> None:
    one = helper(node)
    gpu = planned(one, SMALL).gpu
    held = Held(gpu=gpu.id, device=gpu.id, holder="default/train")
    assert planned(one, SMALL, held).state == "pending"


def test_where_others_partition_the_node_nothing_is_done(node: Path) -> None:
    one = helper(node, ["NVIDIA's MIG manager (process 7)"])
    answer = one.answer(Look(layouts=(SMALL,)))
    assert answer.owners == ("NVIDIA's MIG manager (process 7)",)
    plan = answer.planned[0]
    refused = one.answer(Apply(gpu=plan.gpu.id, layout=SMALL, steps=plan.steps))
    assert "MIG manager" in refused.error
    assert planned(helper(node), SMALL).steps == plan.steps


def test_instances_that_went_with_a_boot_are_planned_again(node: Path) -> None:
    made(helper(node), SMALL)
    NvmlDouble(node, scenario=Scenario(gpus=(h200(0),)))
    after = helper(node, boot="another")
    assert planned(after, SMALL).state == "change"
    answer = made(after, SMALL)
    assert answer.outcome is not None
    assert answer.outcome.state == "done"


def test_owners_are_known_by_their_programs(tmp_path: Path) -> None:
    names = {"7": "nvidia-mig-mana", "9": "bash", "11": "device-config-m"}
    text = "".join(f"/proc/{pid}/comm = {name}\n" for pid, name in names.items())
    write_tree(tmp_path, text + "/proc/self/comm = nvidia-mig-mana\n")
    assert sorted(read_owners(Host(tmp_path))) == [
        "AMD's Device Config Manager (process 11)",
        "NVIDIA's MIG manager (process 7)",
    ]


@pytest.mark.parametrize("program", OWNERS)
def test_no_two_partition_one_node(node: Path, program: str) -> None:
    write_tree(node, f"/proc/4711/comm = {program[:15]}\n")
    one = helper(node, read_owners(Host(node)))
    answer = one.answer(Look(layouts=(SMALL,)))
    (plan,) = answer.planned
    refused = one.answer(Apply(gpu=plan.gpu.id, layout=SMALL, steps=plan.steps))
    assert f"{OWNERS[program]} (process 4711) runs here" == refused.error
    assert one.answer(Recover()).error == refused.error
    assert one.answer(Fit(gpu=plan.gpu.id, places=(), whole=True)).error == refused.error
    assert planned(helper(node), SMALL).steps == plan.steps


@pytest.fixture
def socket_dir(short_dir: Path) -> Iterator[Path]:
    NvmlDouble(short_dir, scenario=Scenario(gpus=(h200(0),)))
    stop, one = Event(), helper(short_dir)
    thread = Thread(target=serve, args=(short_dir / "state", one.answer, stop))
    thread.start()
    while not is_listening(short_dir / "state" / FILE):
        thread.join(0.01)
    yield short_dir / "state"
    stop.set()
    thread.join()


def test_it_answers_on_a_socket_that_is_roots_alone(socket_dir: Path) -> None:
    path = socket_dir / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = ask_helper(path, Look(layouts=(SMALL,)), 60)
    assert answer.planned[0].state == "change"
    assert ask_helper(path, Recover(), 60).outcome is None


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"type": "run", "command": "id"}\n', b"[" * 99])
def test_what_is_no_request_is_answered_with_why(socket_dir: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(str(socket_dir / FILE))
        peer.sendall(line)
        peer.shutdown(socket.SHUT_WR)
        assert b"not a request" in peer.recv(1 << 16)


def test_without_the_process_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NoHelperError, match="deviceplugin provision does not answer"):
        ask_helper(tmp_path / FILE, Look(), 1)
