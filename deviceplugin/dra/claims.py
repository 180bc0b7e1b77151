"""What a ResourceClaim asks of a driver: read from its document and checked; pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.errors import DevicePluginError

Document = Mapping[str, Any]
UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")  # it stands in names of files
MAX_RESULTS = 32  # of a claim, says the API
# Kinds of the vendors' own drivers that ask for nothing when they are empty.
_PLAIN = frozenset({"apiVersion", "kind"})
# What became of a claim, who it is, and its devices: for whoever records that.
Told = Callable[[str, Mapping[str, str], Sequence[str]], object]
_SHARE = re.compile(r"[0-9a-fA-F-]{1,36}")


class ClaimError(DevicePluginError):
    """A claim that is not prepared; the text becomes the pod's event."""


class ClaimRef(Struct, frozen=True, kw_only=True, order=True):
    """A claim as the kubelet names it."""

    uid: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        """Namespace and name, as people know it."""
        return f"{self.namespace}/{self.name}"


class Result(Struct, frozen=True, kw_only=True):
    """A device that the scheduler gave to a request of the claim."""

    request: str
    pool: str
    device: str
    admin: bool = False
    share_id: str | None = None


def nobody(_: str, __: Mapping[str, str], ___: Sequence[str]) -> None:
    """Where nobody records it."""


def is_that_claim(document: Document, ref: ClaimRef) -> bool:
    """Whether the object is the claim itself and not a later one of its name."""
    return _mapping(document, "metadata").get("uid") == ref.uid


def results_of(document: Document, ref: ClaimRef, driver: str) -> tuple[Result, ...]:
    """The devices that a claim has of one driver, in the order of its allocation.

    Raises ClaimError for another object of that name, for a claim that is not allocated or not
    reserved for a pod (an answer that came too late would hold the device for nobody), and for
    parameters that cannot be kept.
    """
    if not is_that_claim(document, ref):
        raise ClaimError(f"claim {ref.text} is another object now, not uid {ref.uid}")
    status = _mapping(document, "status")
    if not status.get("allocation"):
        raise ClaimError(f"claim {ref.text} is not allocated")
    if not status.get("reservedFor"):
        raise ClaimError(f"claim {ref.text} is reserved for no pod")
    devices = _mapping(_mapping(status, "allocation"), "devices")
    results = tuple(
        _result(one, ref) for one in _items(devices, "results", ref) if one.get("driver") == driver
    )
    if not results:
        raise ClaimError(f"claim {ref.text} has no device of driver {driver}")
    for config in _items(devices, "config", ref):
        _check_config(config, ref, driver)
    return results


def _result(one: Document, ref: ClaimRef) -> Result:
    texts = [one.get(key) for key in ("request", "pool", "device")]
    share_id = one.get("shareID")
    if not all(isinstance(text, str) and text for text in texts):
        raise ClaimError(f"claim {ref.text}: a result lacks its request, pool or device")
    if share_id is not None and not (isinstance(share_id, str) and _SHARE.fullmatch(share_id)):
        raise ClaimError(f"claim {ref.text}: a result has a share id that is none")
    request, pool, device = map(str, texts)
    admin = one.get("adminAccess") is True
    return Result(request=request, pool=pool, device=device, admin=admin, share_id=share_id)


def _check_config(config: Document, ref: ClaimRef, driver: str) -> None:
    """Whatever a claim asks for and would not get is refused, not left out."""
    opaque = _mapping(config, "opaque")
    parameters = _mapping(opaque, "parameters")
    if opaque.get("driver") != driver:
        return
    asked = sorted(parameters.keys() - _PLAIN)
    if asked:
        kind = str(parameters.get("kind", "its kind"))[:63]
        names = ", ".join(asked)[:200]
        text = f"parameters {names} of {kind} are not supported: leave them out"
        raise ClaimError(f"claim {ref.text}: {text}")


def _items(document: Document, key: str, ref: ClaimRef) -> Iterator[Document]:
    found = document.get(key) or []
    if not isinstance(found, list) or len(found) > 2 * MAX_RESULTS:
        raise ClaimError(f"claim {ref.text}: {key} of its allocation cannot be read")
    for one in found:
        if not isinstance(one, dict):
            raise ClaimError(f"claim {ref.text}: {key} of its allocation cannot be read")
        yield one


def _mapping(document: Document, key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}
