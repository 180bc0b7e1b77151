"""What an operator may ask about health on the control socket: see it, cordon, uncordon, forget."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from deviceplugin.health.report import Uses, health_report
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device
from deviceplugin.names import one_line
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.part import Operation, Reply
from deviceplugin.schema import Section

MAX_REASON = 500
MAX_SHOWN = 10  # ids in a message


class HealthRequest(Section, frozen=True):
    """A request about a device, or about all; `operation` is health, cordon, uncordon or forget."""

    operation: str
    device: str = ""
    reason: str = ""


class HealthOperations:
    """Answers operators from the store and passes their orders to the tracker."""

    def __init__(
        self,
        store: InventoryStore,
        tracker: FaultTracker,
        uses: Uses | None = None,
        notices: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._store, self._tracker, self._uses, self._notices = store, tracker, uses, notices

    def table(self) -> Mapping[str, Operation]:
        """The operations by name."""
        orders = {"cordon": self._cordon, "uncordon": self._uncordon, "forget": self._forget}
        return {
            "health": Operation(HealthRequest, self._health),
            **{
                name: Operation(HealthRequest, self._saved(order)) for name, order in orders.items()
            },
        }

    def _saved(self, order: Callable[[HealthRequest], Device]) -> Callable[..., Awaitable[Reply]]:
        """The order, answered once it is in the file that outlives the daemon."""

        async def answer(request: HealthRequest) -> Reply:
            device = order(request)
            if problem := await self._tracker.settled():
                raise ControlError(
                    f"{request.operation} {device.id}: in force, but lost when the daemon ends: "
                    f"it cannot be saved ({problem}); this is tried again every 5 s"
                )
            return {"device": device.id}

        return answer

    async def _health(self, _: HealthRequest) -> Reply:
        shown = health_report(self._store.current, self._tracker.records.value, self._uses)
        return {**shown, "notices": list(self._notices())}

    def _cordon(self, request: HealthRequest) -> Device:
        device, reason = self._device(request), one_line(request.reason, MAX_REASON + 1)
        if not reason or len(reason) > MAX_REASON:
            raise ControlError(f"a cordon has a reason of 1 to {MAX_REASON} characters")
        self._tracker.cordon(device, reason)
        return device

    def _uncordon(self, request: HealthRequest) -> Device:
        device = self._device(request)
        self._tracker.uncordon(device)
        return device

    def _forget(self, request: HealthRequest) -> Device:
        device = self._device(request)
        self._tracker.forget(device)
        return device

    def _device(self, request: HealthRequest) -> Device:
        return device_named(self._store, request.device)


def device_named(store: InventoryStore, name: str) -> Device:
    """The device of an id, or the whole GPU at a PCI address or of an index; raises
    ControlError."""
    devices = tuple(store.current.devices.values())
    found = [device for device in devices if _is_named(device, name)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{device.id} ({device.vendor})" for device in found)
        raise ControlError(f"{name!r} names several devices: {several}")
    from difflib import get_close_matches  # noqa: PLC0415  # only for a person's mistake

    known = [device.id for device in devices]
    near = get_close_matches(name, known, n=1)
    raise ControlError(f"there is no device {name!r}, {_known(known, near)}")


def _is_named(device: Device, text: str) -> bool:
    if text == device.id:
        return True
    by_index = text.isdecimal() and device.index == int(text)
    return device.parent is None and (device.pci_address == text.lower() or by_index)


def _known(known: Sequence[str], near: Sequence[str]) -> str:
    if near:
        return f"did you mean {near[0]}?"
    some = ", ".join(known[:MAX_SHOWN]) or "none"
    more = f" and {len(known) - MAX_SHOWN} more" if len(known) > MAX_SHOWN else ""
    return f"there is: {some}{more} (deviceplugin health lists them)"
