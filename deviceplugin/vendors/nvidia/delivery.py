"""How containers get NVIDIA devices where the configuration leaves it open: by CDI names where the
node's runtime is known to honour them, else by a variable as NVIDIA's own plugin."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from deviceplugin.faults import NODE_MISSING
from deviceplugin.host import Host
from deviceplugin.host.runtimes import CdiSupport
from deviceplugin.model import NOTHING, ContainerEdits, Device, Fault, frozen
from deviceplugin.vendors.nvidia.devices import Found
from deviceplugin.vendors.nvidia.driver_files import DriverFiles
from deviceplugin.vendors.nvidia.edits import is_described
from deviceplugin.vendors.nvidia.faults import CDI, driver_missing, hook_refused
from deviceplugin.vendors.nvidia.settings import ListStrategy, NvidiaSection

Support = Callable[[Host], CdiSupport]
Look = Callable[[NvidiaSection], Found]


class Delivery:
    """The choice: the settings `in_force`, and a `note` that says it in one line, None where the
    configuration has made it; `variables` are for each container, whatever the choice is,
    `library` one that limits programs that cooperate (HAMi-core)."""

    def __init__(
        self,
        settings: NvidiaSection,
        support: Support,
        variables: Mapping[str, str] = NOTHING,
        library: str | None = None,
    ) -> None:
        self._given, self._support, self.library = settings, support, library
        self.variables = ContainerEdits(env=frozen(dict(variables)))
        self.in_force = self._with("envvar") if settings.is_auto else settings
        self.note: str | None = None
        self._by_cdi = False

    def found(self, host: Host, look: Look) -> Found:
        """What `look` finds with the strategy that is in force.

        One that was chosen stays while the runtime honours it: devices whose files are missing
        later are Unhealthy, the others keep what their pods rely on.
        """
        if not self._given.is_auto:
            return look(self._given)
        support = self._support(host)
        if support.honoured:
            found = look(by_cdi := self._with("cdi-cri"))
            problem = None if self._by_cdi else _problem(found)
            if problem is None:
                self._by_cdi = self._by_cdi or any(map(is_described, found[0]))
                self.in_force = by_cdi
                self.note = f"device_list_strategy auto is cdi-cri: {support.reason}"
                return found
            support = CdiSupport(honoured=False, reason=problem.reason, remedy=problem.action)
        self._by_cdi, self.in_force = False, self._with("envvar")
        self.note = (
            f"device_list_strategy auto is envvar: {support.reason}; a pod's own"
            f" NVIDIA_VISIBLE_DEVICES beats it. It becomes cdi-cri by: {support.remedy}"
        )
        return look(self.in_force)

    def _with(self, strategy: ListStrategy) -> NvidiaSection:
        return msgspec.structs.replace(self._given, device_list_strategy=(strategy,))


def _problem(found: Found) -> Fault | None:
    """Why no device at all could be had by CDI; None where one can, or where there is none."""
    devices, faults = found
    described = [device for device in devices if is_described(device)]
    reasons = [_withdrawn(device, faults) for device in described]
    return reasons[0] if reasons and all(reasons) else None


def _withdrawn(device: Device, faults: Collection[Fault]) -> Fault | None:
    """A fault that only CDI makes of something: without it the device is offered."""
    mine = (fault for fault in faults if fault.device in (device.id, device.parent))
    return next((fault for fault in mine if _is_of_cdi(fault)), None)


def _is_of_cdi(fault: Fault) -> bool:
    return (fault.source == CDI and fault.kind.withdraws) or fault.code == NODE_MISSING.code


def cdi_faults(devices: Sequence[Device], files: DriverFiles) -> Iterator[Fault]:
    """What keeps CDI files from what containers need of the driver."""
    for device in filter(is_described, devices):
        if files.problem is not None:
            yield driver_missing(device, files.problem)
        if files.hook_problem is not None:
            yield hook_refused(device, files.hook_problem)
