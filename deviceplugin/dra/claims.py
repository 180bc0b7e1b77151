"""What a ResourceClaim asks of a driver: read from its document and checked; pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from deviceplugin.dra.document import parse_quantity
from deviceplugin.errors import DevicePluginError

Document = Mapping[str, Any]
UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")  # it stands in names of files
MAX_RESULTS = 32  # of a claim, says the API
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
    """A device that the scheduler gave to a request of the claim, or with `share_id` a part of
    it: `consumed` of its capacity."""

    request: str
    pool: str
    device: str
    admin: bool = False
    share_id: str | None = None
    consumed: Mapping[str, int] = field(default_factory=dict)


class Config(Struct, frozen=True, kw_only=True):
    """Parameters that a claim, or its class, has for devices of some requests; none is all."""

    place: str
    of_claim: bool
    requests: frozenset[str]
    parameters: Document

    def covers(self, request: str) -> bool:
        """Whether they are for a request; those for `main` are for its `main/sub` too."""
        return not self.requests or bool({request, request.partition("/")[0]} & self.requests)


def nobody(_: str, __: Mapping[str, str], ___: Sequence[str]) -> None:
    """Where nobody records it."""


def is_that_claim(document: Document, ref: ClaimRef) -> bool:
    """Whether the object is the claim itself and not a later one of its name."""
    return _mapping(document, "metadata").get("uid") == ref.uid


def results_of(document: Document, ref: ClaimRef, driver: str) -> tuple[Result, ...]:
    """The devices that a claim has of one driver, in the order of its allocation.

    Raises ClaimError for another object of that name, for a claim that is not allocated or not
    reserved for a pod: an answer that came too late would hold the device for nobody.
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
    return results


def configs_of(document: Document, ref: ClaimRef, driver: str) -> tuple[Config, ...]:
    """The parameters for one driver, in the order of the allocation; raises ClaimError."""
    allocation = _mapping(_mapping(document, "status"), "allocation")
    found = []
    for number, one in enumerate(_items(_mapping(allocation, "devices"), "config", ref)):
        opaque = _mapping(one, "opaque")
        if opaque.get("driver") != driver:
            continue
        requests = one.get("requests")
        named = map(str, requests) if isinstance(requests, list) else ()
        found.append(
            Config(
                place=f"config[{number}].opaque.parameters",
                of_claim=one.get("source") != "FromClass",
                requests=frozenset(named),
                parameters=_mapping(opaque, "parameters"),
            )
        )
    return tuple(found)


def pods_of(document: Document) -> tuple[str, ...]:
    """The uids of the pods that the claim is reserved for."""
    users = _mapping(document, "status").get("reservedFor")
    found = [one.get("uid") for one in users or () if isinstance(one, dict)]
    return tuple(sorted(str(uid) for uid in found if uid))


def _result(one: Document, ref: ClaimRef) -> Result:
    texts = [one.get(key) for key in ("request", "pool", "device")]
    share_id = one.get("shareID")
    if not all(isinstance(text, str) and text for text in texts):
        raise ClaimError(f"claim {ref.text}: a result lacks its request, pool or device")
    if share_id is not None and not (isinstance(share_id, str) and _SHARE.fullmatch(share_id)):
        raise ClaimError(f"claim {ref.text}: a result has a share id that is none")
    request, pool, device = map(str, texts)
    return Result(
        request=request,
        pool=pool,
        device=device,
        admin=one.get("adminAccess") is True,
        share_id=share_id,
        consumed=_consumed(one, ref),
    )


def _consumed(one: Document, ref: ClaimRef) -> Mapping[str, int]:
    """Without the domain of their names, which is the driver's own."""
    found: dict[str, int] = {}
    for name, text in _mapping(one, "consumedCapacity").items():
        amount = parse_quantity(text)
        if amount is None:
            raise ClaimError(f"claim {ref.text}: {str(text)[:20]!r} of {name[:63]} is no quantity")
        found[name.rpartition("/")[2]] = amount
    return found


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
