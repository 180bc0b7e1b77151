"""Who holds a device, and what is checked of a claim's devices together; pure."""

from collections.abc import Iterable

from deviceplugin.dra.claims import UID, ClaimError, ClaimRef
from deviceplugin.dra.files import DeviceEdits
from deviceplugin.model import DeviceID, ResourceName
from deviceplugin.resources.usage import CLAIM, Usage, claim_name

# A device that the device plugin lists and does not give: claims alone have it.
RESERVED = ResourceName("dra")
UNKNOWN = "an unknown claim"


def other_holder(
    usage: Usage, devices: Iterable[DeviceID], own: ResourceName
) -> ResourceName | None:
    """Who holds one of the devices beside `own` and what is kept for claims; None for nobody."""
    forms = {form for device in devices for form in usage.of(device)}
    forms -= {(RESERVED, CLAIM), (own, CLAIM)}
    return min(forms)[0] if forms else None


def holder_text(ref: ClaimRef) -> ResourceName:
    return claim_name(ref.namespace, ref.name) if ref.name else ResourceName(UNKNOWN)


def check_ref(ref: ClaimRef) -> None:
    if not UID.fullmatch(ref.uid):
        raise ClaimError(f"claim {ref.text}: its uid is not letters, digits and '-'")


def check_variables(ref: ClaimRef, edits: Iterable[DeviceEdits]) -> None:
    """A runtime keeps one value of a variable: a container would lose all devices but one."""
    values: dict[str, str] = {}
    for name, value in (pair for one in edits for pair in one.own.env.items()):
        if values.setdefault(name, value) != value:
            text = f"its devices would set {name} to different values"
            action = "set device_list_strategy of their vendor to cdi-cri"
            raise ClaimError(f"claim {ref.text}: {text}: {action}")
