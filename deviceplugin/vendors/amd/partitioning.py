"""AMD's modes and drivers of functions: the hands of `deviceplugin provision`, never of the daemon.

`current_compute_partition` takes a mode where no KFD process is on the GPU
(drivers/gpu/drm/amd/amdgpu/amdgpu_gfx.c); it does not see who has a render node open, so that is
looked for here. What `current_memory_partition` takes is only noted, and is there when the driver
is loaded again (amdgpu_gmc.c); the compute mode is then the one that goes by itself with it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.attributes import write_attribute
from deviceplugin.host.drm import read_drm_nodes
from deviceplugin.host.openers import read_openers
from deviceplugin.host.pci import DEVICES, PciFunction, read_gpus
from deviceplugin.host.reload import Module
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.vendor import Sections
from deviceplugin.vendor.function_drivers import FunctionDrivers
from deviceplugin.vendor.partitions import (
    Functions,
    Modes,
    PartitionedGpu,
    Partitioner,
    Setting,
    Step,
    Verb,
)
from deviceplugin.vendors.amd.kfd import KfdNode, read_topology
from deviceplugin.vendors.amd.models import product_of

VENDOR_ID = 0x1002
DRIVER = "amdgpu"
KFD_NODE = "/dev/kfd"
POLL_S = 0.2
NOT_ALLOWED = (
    "another memory mode needs the driver loaded again, for all GPUs of the node at once: allow it"
    " with deviceplugin provision --reload-drivers, or set it by amd-smi set --memory-partition"
)
_GIM = "the gim driver makes virtual functions by its own settings, with all machines off"
Write = Callable[[str, str], None]


class Driver(Protocol):
    """The driver's module; its methods raise VendorError."""

    def check(self) -> None:
        """Whether it would come back."""

    def unload(self) -> None:
        """Take it out."""

    def load(self) -> None:
        """Load it, where it is not."""


def partitioner(host: Host, sections: Sections) -> Partitioner:
    """The hands for this node."""
    return AmdPartitioner(host, partial(write_attribute, host), Module(host, DRIVER))


class AmdPartitioner:
    """Reads and writes the files of each GPU, and loads their driver again where that is allowed.

    `patience_s` is for how long GPUs are waited for after that.
    """

    def __init__(
        self, host: Host, write: Write, driver: Driver | None = None, patience_s: float = 60.0
    ) -> None:
        self._host, self._write, self._patience_s = host, write, patience_s
        self._drivers, self._driver = FunctionDrivers(host, write), driver
        self._reloads = False

    def allow_reload(self) -> None:
        """From now on the driver may be loaded again."""
        self._reloads = self._driver is not None

    def read(self) -> Sequence[PartitionedGpu]:
        """All physical AMD GPUs."""
        return list(self._read())

    def apply(self, step: Step) -> None:
        """Do the step; raises VendorError."""
        doing = {
            Verb.COMPUTE: self._set_compute,
            Verb.DRIVER: self._drivers.apply,
            Verb.MEMORY: self._set_modes,
        }
        if step.verb not in doing:
            raise VendorError(f"an AMD GPU knows no {step.verb}")
        if not self.is_done(step):
            doing[step.verb](step)

    def is_done(self, step: Step) -> bool:
        """Whether the files say what the step says."""
        if step.verb is Verb.DRIVER:
            return self._drivers.is_done(step)
        if step.verb is Verb.MEMORY:
            return all(
                self._is(one, "memory") and self._is(one, "compute") for one in step.settings
            )
        return self._host.read_line(_file(step.gpu, "compute")) == step.name

    def close(self) -> None:
        """Nothing is held."""

    def _set_compute(self, step: Step) -> None:
        self._write(_file(step.gpu, "compute"), step.name)

    def _set_modes(self, step: Step) -> None:
        """The memory mode of all with one new load of their driver, then the compute modes; a
        driver that a process which ended has left out is loaded first."""
        if self._driver is None or not self._reloads:
            raise VendorError(NOT_ALLOWED)
        if not all(self._is_up(one) for one in step.settings):
            self._driver.load()
            self._wait_for(step.settings)
        if not all(self._is(one, "memory") for one in step.settings):
            self._reload(self._driver, step)
        for one in step.settings:
            if not self._is(one, "compute"):
                self._write(_file(one.gpu, "compute"), one.compute)

    def _reload(self, driver: Driver, step: Step) -> None:
        driver.check()
        try:
            for one in step.settings:
                if one.memory:
                    self._write(_file(one.gpu, "memory"), one.memory)
            driver.unload()
        except VendorError as error:
            self._take_back(step.were)
            text = "the driver may keep what was asked for until it is loaded again"
            raise VendorError(f"{error}; {text}") from error
        driver.load()
        self._wait_for(step.settings)

    def _take_back(self, were: Sequence[Setting]) -> None:
        """As far as a driver forgets: it need not, and what it keeps goes with another mode."""
        for one in were:
            if one.memory:
                with contextlib.suppress(VendorError):
                    self._write(_file(one.gpu, "memory"), one.memory)

    def _wait_for(self, settings: Sequence[Setting]) -> None:
        """Until every GPU that has modes says them; raises VendorError."""
        until = time.monotonic() + self._patience_s
        while missing := [one.gpu for one in settings if not self._is_up(one)]:
            if time.monotonic() >= until:
                raise VendorError(f"{', '.join(missing)} did not come back with the driver")
            time.sleep(POLL_S)

    def _is_up(self, one: Setting) -> bool:
        files = (_file(one.gpu, word) for word in ("compute", "memory"))
        return not one.memory or all(self._host.read_line(file) is not None for file in files)

    def _is(self, one: Setting, word: str) -> bool:
        wanted = one.memory if word == "memory" else one.compute
        return not wanted or self._host.read_line(_file(one.gpu, word)) == wanted

    def _read(self) -> Iterator[PartitionedGpu]:
        functions = read_gpus(self._host, VENDOR_ID)
        physical = [one for one in functions if not read_physical_function(self._host, one.address)]
        nodes = read_topology(self._host).nodes
        beside = read_openers(self._host, [KFD_NODE])
        for index, function in enumerate(physical):
            own = [node for node in nodes if node.sits_at(function.address)]
            modes = self._modes(function, own)
            yield PartitionedGpu(
                id=function.address,
                vendor="amd",
                product=product_of(function.device_id) or f"AMD GPU {function.device_id:04x}",
                index=index,
                address=function.address,
                device=f"0x{function.device_id:04X}{function.vendor_id:04X}",
                modes=modes and replace(modes, beside=beside),
                functions=self._functions(function),
                users=self._users(function, own),
                reloaded=function.driver in (DRIVER, None),
            )

    def _modes(self, function: PciFunction, nodes: Sequence[KfdNode]) -> Modes | None:
        current = self._host.read_line(_file(function.address, "compute"))
        if current is None:
            return None
        dies = [node.dies for node in nodes]
        known = [number for number in dies if number is not None]
        return Modes(
            compute=current,
            available=self._names(function, "available_compute_partition"),
            memory=self._host.read_line(_file(function.address, "memory")),
            dies=sum(known) if known and len(known) == len(dies) else None,
            memories=self._names(function, "available_memory_partition"),
            fixed="" if self._reloads else NOT_ALLOWED,
        )

    def _names(self, function: PciFunction, file: str) -> tuple[str, ...]:
        text = self._host.read_line(f"{function.path}/{file}") or ""
        return tuple(text.replace(",", " ").split())

    def _functions(self, function: PciFunction) -> Functions | None:
        most = self._host.read_int(f"{function.path}/sriov_totalvfs")
        if not most:
            return None
        count = len(read_virtual_functions(self._host, function.address))
        return Functions(
            count=count,
            most=most,
            driver=function.driver or "",
            fixed=_GIM,
            native="amdgpu",
            drivers=self._drivers.drivers(function.address),
            loaded=self._drivers.loaded(),
            unassignable=self._drivers.unassignable(function.address),
            held=self._drivers.held(function.address),
        )

    def _users(self, function: PciFunction, nodes: Sequence[KfdNode]) -> tuple[str, ...]:
        """Partitions have render nodes of their own."""
        drm = read_drm_nodes(self._host, function.path)
        parts = {f"/dev/dri/renderD{node.render_minor}" for node in nodes}
        return read_openers(self._host, {node for node in (drm.card, drm.render) if node} | parts)


def _file(address: str, word: str) -> str:
    return f"{DEVICES}/{address}/current_{word}_partition"
