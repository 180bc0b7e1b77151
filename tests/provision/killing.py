"""SIGKILL before and after each change of hardware or journal, one process for each point.

    python -m tests.provision.killing FOLDER CASE

Prints one JSON line: for each point what was there after the next start. Points are counted, not
guessed: the last run ends alive.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace

from deviceplugin.config.schema import decode_sections
from deviceplugin.host import Host
from deviceplugin.provision.journal import NAME, Journal
from deviceplugin.provision.planner import plan_node
from deviceplugin.provision.section import Layout, VirtualFunctions
from deviceplugin.provision.transaction import Transaction
from deviceplugin.testing.amd import MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor.partitions import PartitionedGpu, Partitioner
from deviceplugin.vendors.amd.partitioning import AmdPartitioner
from deviceplugin.vendors.intel.partitioning import IntelPartitioner
from deviceplugin.vendors.nvidia import SECTIONS
from deviceplugin.vendors.nvidia.library import Nvml
from deviceplugin.vendors.nvidia.partitioning import NvidiaPartitioner, partitioner
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from tests.fakes.nvml import NvmlDouble, Scenario, a30, h200
from tests.provision.plain_nodes import PlainNodes

CHANGES = ("Create", "Destroy", "SetMigMode")
MOST = 400
Layouts = Sequence[Layout]


class Fuse:
    """Ends the process with SIGKILL at the point of this number."""

    def __init__(self, number: int) -> None:
        self.left = number

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            self.pass_by()
            answer = change(*arguments)
            self.pass_by()
            return answer

        return guarded


def arm(number: int) -> Fuse:
    """Every change of the journal and every call that changes a GPU is two points."""
    fuse = Fuse(number)
    call = Nvml.call

    def counted(self: Nvml, function: str, *arguments: Any) -> Any:
        if not any(word in function for word in CHANGES):
            return call(self, function, *arguments)
        return fuse.around(call)(self, function, *arguments)

    Nvml.call = counted  # type: ignore[method-assign]
    replace_file = os.replace

    def replaced(source: Any, target: Any) -> None:
        """The kernel below a tree replaces files too, and no signal ends it half way."""
        guarded = fuse.around(replace_file) if Path(target).name == NAME else replace_file
        guarded(source, target)

    os.replace = replaced  # type: ignore[assignment]
    return fuse


class Case:
    """A node, the layout before and the layout after, and the hands for it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "root", folder / "state"

    def write(self) -> None:
        raise NotImplementedError

    def hands(self, fuse: Fuse | None) -> Partitioner:
        raise NotImplementedError

    before: ClassVar[Layouts]
    after: ClassVar[Layouts]
    fails: ClassVar[bool] = False


class _Mig(Case):
    before: ClassVar[Layouts] = (Layout(mig={"1g.18gb": 2, "3g.71gb": 1}),)
    after: ClassVar[Layouts] = (Layout(mig={"4g.71gb": 1, "1g.18gb": 1, "2g.35gb": 1}),)

    def write(self) -> None:
        NvmlDouble(self.root, scenario=Scenario(gpus=(h200(0),)))

    def hands(self, fuse: Fuse | None) -> Partitioner:
        return partitioner(Host(self.root), decode_sections({}, SECTIONS))


class _MigNodes(_Mig):
    """The driver leaves the nodes of instances to programs."""

    def write(self) -> None:
        double = NvmlDouble(self.root, scenario=Scenario(gpus=(h200(0),)))
        double.show_capabilities(self.root / "proc")
        (self.root / "proc/devices").write_text("Character devices:\n237 nvidia-caps\n")

    def hands(self, fuse: Fuse | None) -> Partitioner:
        nodes = PlainNodes(self.root)
        if fuse is not None:
            nodes.make = fuse.around(nodes.make)  # type: ignore[method-assign]
            nodes.remove = fuse.around(nodes.remove)  # type: ignore[method-assign]
        return NvidiaPartitioner(Host(self.root), NvidiaSection(), nodes)


class _FromWhole(_Mig):
    before: ClassVar[Layouts] = (Layout(none=True),)
    after: ClassVar[Layouts] = (Layout(mig={"1g.18gb": 3}),)


class _ToWhole(_Mig):
    before: ClassVar[Layouts] = (Layout(mig={"1g.18gb": 1, "3g.71gb": 1}),)
    after: ClassVar[Layouts] = (Layout(none=True),)


class _A30(_Mig):
    before: ClassVar[Layouts] = (Layout(mig={"1g.6gb": 4}),)
    after: ClassVar[Layouts] = (Layout(mig={"2g.12gb": 1, "2g.12gb+me": 1}),)

    def write(self) -> None:
        NvmlDouble(self.root, scenario=Scenario(gpus=(a30(0, mig_current=1, mig_pending=1),)))


class _Fails(_FromWhole):
    """The compute instance of each instance fails: all is taken back."""

    fails: ClassVar[bool] = True

    def write(self) -> None:
        double = NvmlDouble(self.root, scenario=Scenario(gpus=(h200(0),)))
        double.fail("nvmlGpuInstanceCreateComputeInstance", 23)


class _Modes(Case):
    before: ClassVar[Layouts] = (Layout(compute="SPX"),)
    after: ClassVar[Layouts] = (Layout(compute="CPX"),)

    def write(self) -> None:
        write_amd_node(self.root, [SimulatedGpu(address="0000:63:00.0", model=MI300X)])

    def hands(self, fuse: Fuse | None) -> Partitioner:
        write = Kernel(self.root).write
        return AmdPartitioner(Host(self.root), fuse.around(write) if fuse else write)


HIVE = [
    SimulatedGpu(address=address, model=MI300X, hive=7)
    for address in ("0000:05:00.0", "0000:27:00.0")
]


class _Memory(Case):
    """Two GPUs of one hive, whose driver is loaded again; they go to modes that it does not make
    by itself."""

    before: ClassVar[Layouts] = (Layout(compute="DPX", memory="NPS1"),)
    after: ClassVar[Layouts] = (Layout(compute="QPX", memory="NPS4"),)
    busy: ClassVar[frozenset[str]] = frozenset()

    def write(self) -> None:
        write_amd_node(self.root, HIVE)

    def hands(self, fuse: Fuse | None) -> Partitioner:
        kernel = _Answers(Kernel(self.root, amd=HIVE), fuse, self.busy)
        hands = AmdPartitioner(Host(self.root), kernel.write, kernel)
        hands.allow_reload()
        return hands


class _Answers:
    """A kernel each of whose answers is two points, and whose `busy` GPUs do not take QPX."""

    def __init__(self, kernel: Kernel, fuse: Fuse | None, busy: frozenset[str]) -> None:
        self._kernel, self._busy, self.check = kernel, busy, kernel.check
        around = fuse.around if fuse else lambda change: change
        self.unload, self.load = around(kernel.unload), around(kernel.load)
        self._write = around(kernel.write)

    def write(self, path: str, text: str) -> None:
        self._kernel.busy = self._busy if text == "QPX" else frozenset()
        self._write(path, text)


class _MemoryFails(_Memory):
    """One GPU does not take its compute mode when the memory mode is there: all is taken back."""

    fails: ClassVar[bool] = True
    busy: ClassVar[frozenset[str]] = frozenset({HIVE[1].address})


FEW = replace(B60, total_vfs=4)  # a quota is a point


class _Functions(Case):
    before: ClassVar[Layouts] = (
        Layout(virtual_functions=VirtualFunctions(count=2, memory="4GiB")),
    )
    after: ClassVar[Layouts] = (
        Layout(virtual_functions=VirtualFunctions(count=4, memory="2GiB", compute="25%")),
    )

    def write(self) -> None:
        write_intel_node(self.root, FEW)

    def hands(self, fuse: Fuse | None) -> Partitioner:
        write = Kernel(self.root, intel=(FEW,)).write
        return IntelPartitioner(Host(self.root), fuse.around(write) if fuse else write)


class _Machines(_Functions):
    """From containers to machines with another number, so that all that there is of functions
    changes."""

    before: ClassVar[Layouts] = (Layout(virtual_functions=VirtualFunctions(count=2, driver="xe")),)
    after: ClassVar[Layouts] = (
        Layout(virtual_functions=VirtualFunctions(count=3, memory="2GiB", driver="vfio-pci")),
    )

    def write(self) -> None:
        super().write()
        write_tree(self.root, "/sys/bus/pci/drivers/vfio-pci/\n")


class _Containers(_Machines):
    """And back, with the functions as they are."""

    before: ClassVar[Layouts] = (
        Layout(virtual_functions=VirtualFunctions(count=3, driver="vfio-pci")),
    )
    after: ClassVar[Layouts] = (Layout(virtual_functions=VirtualFunctions(count=3, driver="xe")),)


CASES: Mapping[str, type[Case]] = {
    "mig": _Mig,
    "mig-with-nodes": _MigNodes,
    "mig-from-whole": _FromWhole,
    "mig-to-whole": _ToWhole,
    "mig-a30": _A30,
    "mig-that-fails": _Fails,
    "compute-mode": _Modes,
    "memory-mode": _Memory,
    "memory-mode-that-fails": _MemoryFails,
    "virtual-functions": _Functions,
    "functions-to-machines": _Machines,
    "functions-to-containers": _Containers,
}


def change(case: Case, layouts: Layouts, fuse: Fuse | None = None) -> None:
    """What the program does at its start: what is begun first, then what is wanted."""
    hands, journal = case.hands(fuse), Journal(case.state, "boot")
    transaction = Transaction(journal, hands, lambda _: ())
    transaction.recover()
    for gpu in hands.read():
        made = {one.id: journal.places(one.id) for one in hands.read()}
        planned = next(
            one for one in plan_node(hands.read(), layouts, made, {}) if one.gpu.id == gpu.id
        )
        assert planned.state in {"change", "as-wanted"} or case.fails, planned.reason
        if planned.steps:
            outcome = transaction.run(planned.steps)
            fails = case.fails and layouts is case.after
            assert outcome.state == ("undone" if fails else "done"), outcome


def change_and_die(case: Case, number: int) -> None:
    change(case, case.after, arm(number))


def recovered(case: Case) -> dict[str, Any]:
    Transaction(Journal(case.state, "boot"), case.hands(None), lambda _: ()).recover()
    return shown(case)


def shown(case: Case) -> dict[str, Any]:
    """The node as it is, and what the journal says of it."""
    gpu, *others = case.hands(None).read()
    journal = Journal(case.state, "boot")
    return layout_of(gpu) | {
        "others": [layout_of(one) for one in others],
        "nodes": PlainNodes(case.root).names(),
        "made": sorted(journal.places(gpu.id)),
        "begun": journal.record.begun is not None,
    }


def layout_of(gpu: PartitionedGpu) -> dict[str, Any]:
    if gpu.mig is not None:
        instances = [(one.profile, one.start) for one in gpu.mig.instances]
        whole = all(one.whole for one in gpu.mig.instances)
        return {"mode": gpu.mig.enabled, "instances": sorted(instances), "whole": whole}
    if gpu.functions is not None:
        return {
            "count": gpu.functions.count,
            "quota": gpu.functions.quota_bytes,
            "turns": (gpu.functions.quanta_ms, gpu.functions.timeouts_us),
            "drivers": gpu.functions.drivers,
            "autoprobe": gpu.functions.autoprobe,
        }
    assert gpu.modes is not None
    return {"mode": gpu.modes.compute, "memory": gpu.modes.memory}


def forked(work: Callable[[], object]) -> tuple[int, Any]:
    """In a process of its own: its wait status, and what `work` gave."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(write, json.dumps(work()).encode())
            status = 0
        except BaseException:  # noqa: BLE001  # this process ends here, the parent has the status
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    return os.waitpid(pid, 0)[1], json.loads(text) if text else None


def points(folder: Path, case: type[Case]) -> dict[str, Any]:
    """The old and the new layout, and what was there after a kill at each point."""
    found: list[Any] = []
    first = case(folder / "first")
    forked(first.write)
    assert forked(partial(change, first, first.before))[0] == 0
    old = forked(partial(shown, first))[1]
    for number in range(1, MOST):
        shutil.copytree(folder / "first", folder / str(number), symlinks=True)
        one = case(folder / str(number))
        status, _ = forked(partial(change_and_die, one, number))
        if status == 0:
            return {"old": old, "new": forked(partial(shown, one))[1], "points": found}
        assert status == signal.SIGKILL, status
        status, there = forked(partial(recovered, one))
        assert status == 0
        found.append(there)
        shutil.rmtree(folder / str(number))
    raise AssertionError(f"more than {MOST} points")


if __name__ == "__main__":
    print(json.dumps(points(Path(sys.argv[1]), CASES[sys.argv[2]])))
