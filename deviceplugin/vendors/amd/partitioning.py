"""AMD's modes and drivers of functions: the hands of `deviceplugin provision`, never of the daemon.

`current_compute_partition` takes a mode where no KFD process is on the GPU
(drivers/gpu/drm/amd/amdgpu/amdgpu_gfx.c); it does not see who has a render node open, so that is
looked for here.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.attributes import write_attribute
from deviceplugin.host.drm import read_drm_nodes
from deviceplugin.host.openers import read_openers
from deviceplugin.host.pci import PciFunction, read_gpus
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.vendor import Sections
from deviceplugin.vendor.function_drivers import FunctionDrivers
from deviceplugin.vendor.partitions import (
    Functions,
    Modes,
    PartitionedGpu,
    Partitioner,
    Step,
    Verb,
)
from deviceplugin.vendors.amd.kfd import read_topology
from deviceplugin.vendors.amd.models import product_of

VENDOR_ID = 0x1002
_GIM = "the gim driver makes virtual functions by its own settings, with all machines off"
Write = Callable[[str, str], None]


def partitioner(host: Host, sections: Sections) -> Partitioner:
    """The hands for this node."""
    return AmdPartitioner(host, partial(write_attribute, host))


class AmdPartitioner:
    """Reads and writes the files of each GPU."""

    def __init__(self, host: Host, write: Write) -> None:
        self._host, self._write = host, write
        self._drivers = FunctionDrivers(host, write)

    def read(self) -> Sequence[PartitionedGpu]:
        """All physical AMD GPUs."""
        return list(self._read())

    def apply(self, step: Step) -> None:
        """Do the step; raises VendorError."""
        if step.verb not in (Verb.COMPUTE, Verb.DRIVER):
            raise VendorError(f"an AMD GPU knows no {step.verb}")
        if self.is_done(step):
            return
        if step.verb is Verb.DRIVER:
            self._drivers.apply(step)
        else:
            self._write(_file(step.gpu, "current"), step.name)

    def is_done(self, step: Step) -> bool:
        """Whether the files say what the step says."""
        if step.verb is Verb.DRIVER:
            return self._drivers.is_done(step)
        return self._host.read_line(_file(step.gpu, "current")) == step.name

    def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> Iterator[PartitionedGpu]:
        functions = read_gpus(self._host, VENDOR_ID)
        physical = [one for one in functions if not read_physical_function(self._host, one.address)]
        for index, function in enumerate(physical):
            yield PartitionedGpu(
                id=function.address,
                vendor="amd",
                product=product_of(function.device_id) or f"AMD GPU {function.device_id:04x}",
                index=index,
                address=function.address,
                device=f"0x{function.device_id:04X}{function.vendor_id:04X}",
                modes=self._modes(function),
                functions=self._functions(function),
                users=self._users(function),
            )

    def _modes(self, function: PciFunction) -> Modes | None:
        current = self._host.read_line(_file(function.address, "current"))
        if current is None:
            return None
        available = self._host.read_line(_file(function.address, "available")) or ""
        memory = self._host.read_line(f"{function.path}/current_memory_partition")
        names = tuple(available.replace(",", " ").split())
        dies = [
            node.dies for node in read_topology(self._host).nodes if node.sits_at(function.address)
        ]
        known = [number for number in dies if number is not None]
        total = sum(known) if known and len(known) == len(dies) else None
        return Modes(compute=current, available=names, memory=memory, dies=total)

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

    def _users(self, function: PciFunction) -> tuple[str, ...]:
        drm = read_drm_nodes(self._host, function.path)
        return read_openers(self._host, [node for node in (drm.card, drm.render) if node])


def _file(address: str, word: str) -> str:
    return f"/sys/bus/pci/devices/{address}/{word}_compute_partition"
