"""Virtual functions through sysfs: the hands of `deviceplugin provision`, never of the daemon.

The order is that of the kernel: a quota is written before the functions are enabled, for each of
them, and turns the driver's equal shares off; a count goes to another only by zero; turns are
written at any time (Documentation/ABI/testing/sysfs-driver-intel-xe-sriov, sysfs-bus-pci).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from deviceplugin.errors import DiscoveryError, VendorError
from deviceplugin.host import Host
from deviceplugin.host.attributes import write_attribute
from deviceplugin.host.drm import read_drm_nodes
from deviceplugin.host.openers import read_openers
from deviceplugin.host.pci import DEVICES, PciFunction, read_gpus
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.vendor import Sections
from deviceplugin.vendor.function_drivers import FunctionDrivers
from deviceplugin.vendor.partitions import (
    TURNS,
    Functions,
    PartitionedGpu,
    Partitioner,
    Step,
    Verb,
    is_quota,
)
from deviceplugin.vendors.intel.products import PRODUCTS

VENDOR_ID = 0x8086
_VERBS = (Verb.AUTOPROBE, Verb.QUOTA, Verb.FUNCTIONS, Verb.DRIVER, *TURNS)
_TURN_FILES = {Verb.QUANTUM: "exec_quantum_ms", Verb.PREEMPTION: "preempt_timeout_us"}
Write = Callable[[str, str], None]


def partitioner(host: Host, sections: Sections) -> Partitioner:
    """The hands for this node."""
    return IntelPartitioner(host, partial(write_attribute, host))


class IntelPartitioner:
    """Reads and writes the files of each GPU."""

    def __init__(self, host: Host, write: Write) -> None:
        self._host, self._write = host, write
        self._drivers = FunctionDrivers(host, write)

    def read(self) -> Sequence[PartitionedGpu]:
        """All physical Intel GPUs."""
        return list(self._read())

    def apply(self, step: Step) -> None:
        """Do the step; raises VendorError."""
        if step.verb not in _VERBS:
            raise VendorError(f"an Intel GPU knows no {step.verb}")
        if self.is_done(step):
            return
        path = f"{DEVICES}/{step.gpu}"
        if step.verb is Verb.FUNCTIONS:
            self._enable(step)
        elif step.verb is Verb.DRIVER:
            self._drivers.apply(step)
        elif step.verb is Verb.AUTOPROBE:
            self._write(f"{path}/sriov_drivers_autoprobe", str(step.number))
        elif step.verb in TURNS:
            for file, value in _turn_values(step):
                if self._host.read_int(file) != value:  # functions that are not there are left
                    self._write(file, str(value))
        else:
            for number, size in sorted(self._quotas(step), key=lambda one: one[1]):
                self._write(_quota(step.gpu, number), str(size))  # what is given back comes first

    def is_done(self, step: Step) -> bool:
        """Whether the files say what the step says."""
        path = f"{DEVICES}/{step.gpu}"
        if step.verb is Verb.FUNCTIONS:
            there = len(read_virtual_functions(self._host, step.gpu))
            return self._host.read_int(f"{path}/sriov_numvfs") == step.number == there
        if step.verb is Verb.DRIVER:
            return self._drivers.is_done(step)
        if step.verb is Verb.AUTOPROBE:
            return self._host.read_int(f"{path}/sriov_drivers_autoprobe") == step.number
        if step.verb in TURNS:
            return all(self._host.read_int(file) == value for file, value in _turn_values(step))
        return step.verb is Verb.QUOTA and all(
            is_quota(size, self._host.read_int(_quota(step.gpu, number)) or 0)
            for number, size in self._quotas(step)
        )

    def _quotas(self, step: Step) -> Sequence[tuple[int, int]]:
        """What each possible function is to have: a quota stays when functions are disabled, so
        those beyond the count get none."""
        most = self._host.read_int(f"{DEVICES}/{step.gpu}/sriov_totalvfs") or 0
        count = int(step.name or 0)
        return [(n, step.number if n <= count else 0) for n in range(1, most + 1)]

    def close(self) -> None:
        """Nothing is held."""

    def _enable(self, step: Step) -> None:
        """Another count only by zero; one that does not come up is taken back."""
        file = f"{DEVICES}/{step.gpu}/sriov_numvfs"
        if step.number and self._host.read_int(file):
            self._write(file, "0")
        self._write(file, str(step.number))
        if not self.is_done(step):
            self._write(file, "0")
            raise VendorError(f"{file}: {step.number} functions did not come up")

    def _read(self) -> Iterator[PartitionedGpu]:
        functions = read_gpus(self._host, VENDOR_ID)
        physical = [one for one in functions if not read_physical_function(self._host, one.address)]
        for index, function in enumerate(physical):
            product = PRODUCTS.get(function.device_id)
            yield PartitionedGpu(
                id=function.address,
                vendor="intel",
                product=product.name if product else f"Intel GPU {function.device_id:04x}",
                index=index,
                address=function.address,
                device=f"0x{function.device_id:04X}{function.vendor_id:04X}",
                functions=self._functions(function, product.largest_bytes if product else None),
                users=self._users(function),
            )

    def _functions(self, function: PciFunction, most_bytes: int | None) -> Functions | None:
        most = self._host.read_int(f"{function.path}/sriov_totalvfs")
        if not most:
            return None
        virtual = read_virtual_functions(self._host, function.address)
        quota = self._host.read_int(_quota(function.address, 1))
        probe = self._host.read_int(f"{function.path}/sriov_drivers_autoprobe")
        return Functions(
            count=len(virtual),
            most=most,
            driver=function.driver or "",
            memory_bytes=most_bytes,
            quotas=quota is not None,
            quota_bytes=quota,
            quanta_ms=self._turns(function.address, most, Verb.QUANTUM),
            timeouts_us=self._turns(function.address, most, Verb.PREEMPTION),
            autoprobe=probe != 0,
            native=function.driver or "",
            drivers=self._drivers.drivers(function.address),
            loaded=self._drivers.loaded(),
            unassignable=self._drivers.unassignable(function.address),
            held=self._drivers.held(function.address),
        )

    def _users(self, function: PciFunction) -> tuple[str, ...]:
        drm = read_drm_nodes(self._host, function.path)
        return read_openers(self._host, [node for node in (drm.card, drm.render) if node])

    def _turns(self, address: str, most: int, verb: Verb) -> tuple[int, ...] | None:
        """None too where one of them cannot be read, so that none is guessed on the way back."""
        try:
            read = [self._host.read_int(_turn(address, n, verb)) for n in range(1, most + 1)]
        except DiscoveryError:
            return None
        values = tuple(value for value in read if value is not None)
        return values if len(values) == most else None


def _quota(address: str, number: int) -> str:
    return _profile(address, number, "vram_quota")


def _turn(address: str, number: int, verb: Verb) -> str:
    return _profile(address, number, _TURN_FILES[verb])


def _turn_values(step: Step) -> Sequence[tuple[str, int]]:
    """Each function's file with its value."""
    values = enumerate(step.name.split(), 1)
    return [(_turn(step.gpu, number, step.verb), int(value)) for number, value in values]


def _profile(address: str, number: int, name: str) -> str:
    return f"{DEVICES}/{address}/sriov_admin/vf{number}/profile/{name}"
