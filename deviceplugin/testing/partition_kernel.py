"""A small kernel below a tree: answers writes to sysfs as amdgpu, the PCI core and xe do.

    kernel = Kernel(root)
    AmdPartitioner(Host(root), kernel.write)

State is the tree itself, so what was written outlives the process that wrote it. Sources: the
kernel's amdgpu_gfx.c (amdgpu_gfx_set_compute_partition), pci/iov.c (sriov_numvfs_store),
pci/pci-sysfs.c and base/bus.c (drivers of functions), xe_sriov_pf_provision.c.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.errors import VendorError
from deviceplugin.testing.amd import SimulatedGpu
from deviceplugin.testing.amd_driver import AmdDriver
from deviceplugin.testing.intel import IntelGpu, set_vfs
from deviceplugin.testing.pci_drivers import DEVICES, DRIVERS, driver_of, release, take
from deviceplugin.testing.tree import write_tree

# What the driver takes (aqua_vanjaram.c).
MEMORY_MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "SPX": ("NPS1",),
        "DPX": ("NPS1", "NPS2"),
        "TPX": ("NPS1", "NPS4"),
        "QPX": ("NPS1", "NPS4"),
        "CPX": ("NPS1", "NPS4"),
    }
)
_WRITE_ONLY = frozenset({"unbind", "drivers_probe"})
PAGE = 2 << 20  # of the memory of virtual functions


class Kernel(Struct):
    """`intel` are the GPUs whose functions it makes, `amd` those whose KFD nodes follow their mode,
    `busy` the addresses of GPUs with a compute process.

    `refused` are files of profiles whose values, other than 0, the firmware does not take;
    `forgets` says that what was set for functions goes with them, as xe's automatic mode does;
    `unable` are drivers that take no function.
    """

    root: Path
    intel: Sequence[IntelGpu] = ()
    amd: Sequence[SimulatedGpu] = ()
    busy: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    forgets: bool = False
    unable: frozenset[str] = frozenset()
    amdgpu: AmdDriver | None = None

    def __post_init__(self) -> None:
        """The driver of the AMD GPUs."""
        if self.amd:
            self.amdgpu = AmdDriver(self.root, self.amd)

    def check(self) -> None:
        """The module that is loaded is that of the node."""

    def unload(self) -> None:
        """As `modprobe -r amdgpu`; VendorError with the kernel's answer."""
        self._module(errno.ENOENT if self.amdgpu is None else self.amdgpu.unload())

    def load(self) -> None:
        """As `modprobe amdgpu`; VendorError with the kernel's answer."""
        self._module(errno.ENOENT if self.amdgpu is None else self.amdgpu.load())

    def _module(self, number: int) -> None:
        if number:
            raise _refusal("amdgpu", number)

    def write(self, host_path: str, text: str) -> None:
        """As a write of the file; VendorError with the driver's answer."""
        path = self.root / host_path.lstrip("/")
        if not (path.exists() or (path.name in _WRITE_ONLY and path.parent.exists())):
            raise _refusal(host_path, errno.ENOENT)
        if number := self._answer(path, text):
            raise _refusal(host_path, number)

    def _answer(self, path: Path, text: str) -> int:
        answers: dict[str, Callable[[Path, str], int]] = {
            "current_compute_partition": self._compute,
            "current_memory_partition": self._memory,
            "sriov_numvfs": self._functions,
            "sriov_drivers_autoprobe": self._plain,
            "vram_quota": self._quota,
            "exec_quantum_ms": self._turn,
            "preempt_timeout_us": self._turn,
            "driver_override": self._override,
            "unbind": self._unbind,
            "drivers_probe": self._probe,
        }
        return answers[path.name](path, text) if path.name in answers else errno.EACCES

    def _compute(self, path: Path, text: str) -> int:
        available = (path.parent / "available_compute_partition").read_text()
        if text not in available.replace(",", " ").split():
            return errno.EINVAL
        address = path.parent.name
        if address in self.busy:
            return errno.EBUSY
        memory = (path.parent / "current_memory_partition").read_text().strip()
        if memory not in MEMORY_MODES.get(text, ()):
            return errno.EINVAL
        if self.amdgpu is None:
            return self._plain(path, text)
        self.amdgpu.set_compute(address, text)
        return 0

    def _memory(self, path: Path, text: str) -> int:
        return errno.EACCES if self.amdgpu is None else self.amdgpu.note(path.parent.name, text)

    def _functions(self, path: Path, text: str) -> int:
        wanted, now = int(text), int(path.read_text())
        if wanted == now:
            return 0
        if wanted and now:
            return errno.EBUSY
        if wanted > int((path.parent / "sriov_totalvfs").read_text()):
            return errno.ERANGE
        gpu = next(one for one in self.intel if one.address == path.parent.name)
        kept = not self.forgets or wanted
        files = path.parent.glob("sriov_admin/vf*/profile/*") if kept else ()
        values = {file: _number(file) for file in files}
        probes = _number(path.parent / "sriov_drivers_autoprobe") and gpu.driver not in self.unable
        set_vfs(self.root, gpu, wanted, drivers=() if probes else [None] * wanted)
        for file, value in values.items():  # what was set by hand stays when functions go
            self._plain(file, str(value))
        return 0

    def _override(self, path: Path, text: str) -> int:
        return self._plain(path, text.strip() or "(null)")

    def _unbind(self, path: Path, text: str) -> int:
        if driver_of(self.root, text) != path.parent.name:
            return errno.ENODEV
        release(self.root, text)
        return 0

    def _probe(self, _: Path, text: str) -> int:
        """Without a driver that takes it, the function stays as it is, and that is no error."""
        function = self.root / DEVICES / text
        if not function.exists():
            return errno.ENODEV
        override = (function / "driver_override").read_text().strip()
        driver = self._native(function) if override == "(null)" else override
        there = (self.root / DRIVERS / driver).is_dir()
        if driver_of(self.root, text) is None and there and driver not in self.unable:
            take(self.root, text, driver)
        return 0

    def _native(self, function: Path) -> str:
        """By the tables of ids: what the physical function has, of AMD's the driver of guests."""
        driver = driver_of(self.root, Path(os.readlink(function / "physfn")).name) or ""
        return "amdgpu" if driver == "gim" else driver

    def _quota(self, path: Path, text: str) -> int:
        if _number(path.parents[3] / "sriov_numvfs"):
            return errno.EBUSY
        return self._plain(path, str(-(-int(text) // PAGE) * PAGE))

    def _turn(self, path: Path, text: str) -> int:
        """Taken while functions run, too."""
        if not (text.isascii() and text.isdigit()):
            return errno.EINVAL
        return errno.EIO if int(text) and path.name in self.refused else self._plain(path, text)

    def _plain(self, path: Path, text: str) -> int:
        host_path = f"/{path.relative_to(self.root)}"
        write_tree(self.root, f"{host_path} = {text}\n")
        return 0


def _number(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def _refusal(host_path: str, number: int) -> VendorError:
    return VendorError(f"{host_path}: {os.strerror(number)}")
