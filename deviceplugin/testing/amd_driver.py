"""The amdgpu module below a tree: what is asked of memory modes is noted, and is there when the
module is loaded again (amdgpu_gmc.c, amdgpu_xgmi.c; docs/vendors/amd.md).

What the firmware has and what was noted is in a file beside the tree, so it outlives the process.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.amd import SimulatedGpu, amd_tree, switch_mode
from deviceplugin.testing.pci_drivers import DEVICES, driver_of, release
from deviceplugin.testing.tree import remove, write_tree

MODULE = "amdgpu"
OFFERED = "NPS1, NPS4"
_KFD = ("/sys/devices/virtual/kfd", "/sys/class/kfd", "/dev/kfd")
_FILES = tuple(
    f"{word}_{kind}_partition"
    for word in ("current", "available")
    for kind in ("compute", "memory")
)
_ALONE = {"NPS1": "SPX", "NPS2": "DPX", "NPS4": "CPX"}  # the driver's automatic mode


class State(Struct):
    """What outlives the module: of each GPU its memory mode and the one that was noted, and the
    compute modes, which do not."""

    memory: dict[str, str]
    noted: dict[str, str]
    compute: dict[str, str]


class AmdDriver:
    """Of these GPUs. `unable` says that it cannot be loaded, `busy` that something holds it."""

    def __init__(self, root: Path, gpus: Sequence[SimulatedGpu]) -> None:
        self._root, self._gpus = root, tuple(gpus)
        self._file = root.with_name(f"{root.name}.amdgpu.json")
        self.unable, self.busy = False, False

    def note(self, address: str, mode: str) -> int:
        """As a write of current_memory_partition: the mode that is there changes nothing, nor what
        was noted before."""
        if mode not in OFFERED.replace(",", " ").split():
            return errno.EINVAL
        state = self._state()
        if state.memory[address] == mode:
            return 0
        for gpu in self._hive(address):
            state.noted[gpu] = mode
        self._keep(state)
        return 0

    def set_compute(self, address: str, mode: str) -> None:
        """As the driver does where nobody is on the GPU."""
        state = self._state()
        state.compute[address] = mode
        self._keep(state)
        switch_mode(self._root, self._now(), address, mode)

    def unload(self) -> int:
        """The GPUs go, and the firmware changes to what was noted."""
        if self.busy:
            return errno.EBUSY
        state = self._state()
        for address, mode in state.noted.items():
            state.memory[address], state.compute[address] = mode, _ALONE[mode]
        state.noted = {}
        for gpu in self._gpus:
            path = self._root / DEVICES / gpu.address
            release(self._root, gpu.address)
            for name in _FILES:
                (path / name).unlink(missing_ok=True)
        self._remove_parts()
        remove(self._root, *(one for one in _KFD if os.path.lexists(self._root / one[1:])))
        self._keep(state)
        return 0

    def load(self) -> int:
        """The GPUs come back, in the compute mode that goes with their memory mode."""
        if self.unable:
            return errno.ENODEV
        if any(driver_of(self._root, gpu.address) is None for gpu in self._gpus):
            write_tree(self._root, amd_tree(self._now()))
        return 0

    def _remove_parts(self) -> None:
        for part in (self._root / "sys/devices/platform").glob("amdgpu_xcp*"):
            for node in (part / "drm").iterdir():
                (self._root / "sys/class/drm" / node.name).unlink()
                (self._root / "dev/dri" / node.name).unlink()
            shutil.rmtree(part)

    def _hive(self, address: str) -> Iterator[str]:
        hives: Mapping[str, int] = {gpu.address: gpu.hive for gpu in self._gpus}
        for other, hive in hives.items():
            if other == address or hive == hives[address] != 0:
                yield other

    def _now(self) -> tuple[SimulatedGpu, ...]:
        state = self._state()
        return tuple(
            replace(gpu, mode=state.compute[gpu.address], memory_mode=state.memory[gpu.address])
            for gpu in self._gpus
        )

    def _state(self) -> State:
        if self._file.exists():
            return msgspec.json.decode(self._file.read_bytes(), type=State)
        return State(
            memory={gpu.address: gpu.memory_mode for gpu in self._gpus},
            noted={},
            compute={gpu.address: gpu.mode for gpu in self._gpus},
        )

    def _keep(self, state: State) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.rename(self._file)
