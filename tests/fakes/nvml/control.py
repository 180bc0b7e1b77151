"""The handle a test holds: installs the double under a root and changes what it answers."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from tests.fakes.nvml.library import build_library
from tests.fakes.nvml.model import GPU_IS_LOST, Fault, Gpu, Scenario
from tests.fakes.nvml.partition import with_mig, without_mig
from tests.fakes.nvml.render import render

XID_EVENT = 0x8
HOPPER = 9  # NVML's number of the architecture
MIG_CONFIG_EVENT = 0x100
NO_INSTANCE = 0xFFFFFFFF


class NvmlDouble:
    """libnvidia-ml.so.1 under `root`, and the scenario it speaks from."""

    def __init__(
        self, root: Path, lib_dir: str = "usr/lib64", scenario: Scenario | None = None
    ) -> None:
        self.folder = root / lib_dir
        self.library = self.folder / "libnvidia-ml.so.1"
        self._events = 0
        self.write(scenario or Scenario())
        self.install()

    def install(self) -> None:
        """As a driver package does: the file carries the version, the soname is a link."""
        self.uninstall()
        version = self.scenario.driver_version or "unknown"
        file = build_library(self.folder, f"libnvidia-ml.so.{version}")
        self.library.symlink_to(file.name)

    def show_capabilities(self, proc: Path, *, modify: bool = True) -> None:
        """Below `proc` (the root's /proc) each instance has its files from now on; `modify` is
        whether programs may make the nodes, or the driver does."""
        shown = proc / "driver/nvidia/capabilities"
        shown.mkdir(parents=True, exist_ok=True)
        (shown / "modify").write_text(str(int(modify)))
        link = self.folder / "nvml-capabilities"
        link.symlink_to(os.path.relpath(shown, self.folder))  # so that a copy has its own

    def uninstall(self) -> None:
        """No library to be found; a process that loaded it keeps it. The scenario stays."""
        for file in self.folder.glob("libnvidia-ml.so.*"):
            file.unlink()

    def write(self, scenario: Scenario) -> None:
        """From the next NVML call on, this is the machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".nvml-scenario.new"
        aside.write_text(render(scenario))
        aside.rename(self.folder / "nvml-scenario")
        self.scenario = scenario

    def update(self, change: Callable[[Scenario], Scenario]) -> None:
        self.write(change(self.scenario))

    def update_gpu(self, index: int, change: Callable[[Gpu], Gpu]) -> None:
        self.update(lambda scenario: scenario.with_gpu(change(scenario.gpu(index))))

    def remove(self, index: int) -> None:
        """NVML no longer counts the GPU; handles to it answer GPU_IS_LOST."""
        gpus = tuple(gpu for gpu in self.scenario.gpus if gpu.index != index)
        self.update(lambda scenario: replace(scenario, gpus=gpus))

    def set_mig(self, index: int, profiles: Sequence[str | None]) -> None:
        """Cut the GPU anew: MIG mode on, fresh UUIDs; an empty list leaves no instances."""
        self.update_gpu(index, lambda gpu: with_mig(gpu, profiles))

    def clear_mig(self, index: int) -> None:
        self.update_gpu(index, without_mig)

    def reset(self, index: int) -> None:
        """As a reset of the GPU, or a new start of the node: no instances; a mode that is pending
        is in force, and from Hopper on MIG mode is off."""
        scenario = (self.folder / "nvml-scenario").read_text()
        found = re.search(rf"(?m)^gpu gpu={index} .* mig_pending=([01])", scenario)
        ampere = (self.scenario.gpu(index).architecture or 0) < HOPPER
        mode = int(found[1]) if found and ampere else 0
        self.update_gpu(index, lambda gpu: replace(gpu, mig=(), mig_current=mode, mig_pending=mode))

    # -- faults -----------------------------------------------------------------------------
    def lose(self, index: int, code: int = GPU_IS_LOST) -> None:
        """Every call on the GPU fails, handing out its handle included; it is still counted."""
        self.fail("*", code, gpu=index)

    def fail(
        self, function: str, code: int, gpu: int | None = None, except_for: str | None = None
    ) -> None:
        """Calls that match fail: `fail("*", 15, gpu=3, except_for="nvmlDeviceGetHandleBy*")`."""
        self._add(Fault(kind="error", function=function, gpu=gpu, code=code, except_for=except_for))

    def hang(self, function: str = "*", gpu: int | None = None) -> None:
        """Calls that match do not return until `unhang`."""
        self._add(Fault(kind="hang", function=function, gpu=gpu))

    def slow(self, function: str, ms: int, gpu: int | None = None) -> None:
        self._add(Fault(kind="slow", function=function, gpu=gpu, ms=ms))

    def crash(
        self,
        function: str,
        how: Literal["segv", "abort", "exit"] = "segv",
        gpu: int | None = None,
    ) -> None:
        """Calls that match end the process."""
        self._add(Fault(kind="crash", function=function, gpu=gpu, how=how))

    def lie(
        self,
        function: str,
        gpu: int | None = None,
        text: bytes | None = None,
        number: int | None = None,
    ) -> None:
        """Calls that match succeed with this text or number; README.md says which can."""
        told = None if text is None else text.hex()
        self._add(Fault(kind="lie", function=function, gpu=gpu, bytes=told, number=number))

    def unhang(self) -> None:
        self._keep(lambda fault: fault.kind != "hang")

    def recover(self, index: int) -> None:
        """No more faults on this GPU; those on every GPU stay."""
        self._keep(lambda fault: fault.gpu != index)

    def clear_faults(self) -> None:
        self._keep(lambda _: False)

    def _add(self, fault: Fault) -> None:
        self.update(lambda scenario: replace(scenario, faults=(*scenario.faults, fault)))

    def _keep(self, wanted: Callable[[Fault], bool]) -> None:
        kept = tuple(fault for fault in self.scenario.faults if wanted(fault))
        self.update(lambda scenario: replace(scenario, faults=kept))

    # -- events -----------------------------------------------------------------------------
    def raise_event(
        self,
        gpu: int,
        xid: int = 79,
        *,
        type: int = XID_EVENT,  # noqa: A002 - NVML's own word
        gi: int | None = None,
        ci: int | None = None,
    ) -> None:
        """One event for the sets that registered this GPU and type; `xid` is the event's data."""
        self._events += 1
        place = f"gi={_instance(gi)} ci={_instance(ci)}"
        line = f"{self._events} gpu={gpu} type={type:#x} data={xid} {place}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self.folder / "nvml-events", flags, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


def _instance(number: int | None) -> int:
    return NO_INSTANCE if number is None else number
