"""ResourceClaims and DeviceClasses: what is asked for, and what was allocated; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from deviceplugin.scheduler.asks import ALL, Ask, ClaimAsk, Counters
from deviceplugin.scheduler.objects import Meta
from deviceplugin.scheduler.quantities import amount


class Given(Struct, frozen=True, gc=False):
    """A device that was allocated, by driver, pool and name, and how much of it."""

    driver: str
    pool: str
    device: str
    consumed: Counters = ()


class _Cel(Struct):
    expression: str = ""


class _Selector(Struct):
    cel: _Cel | None = None


class _Capacity(Struct):
    requests: dict[str, str | int | float] | None = None


class _Exactly(Struct, rename="camel"):
    device_class_name: str = ""
    selectors: list[_Selector] | None = None
    allocation_mode: str = ""
    count: int | None = None
    admin_access: bool | None = None
    capacity: _Capacity | None = None


class _Request(Struct, rename="camel"):
    name: str = ""
    exactly: _Exactly | None = None
    first_available: list[_Exactly] | None = None


class _Constraint(Struct, rename="camel"):
    requests: list[str] | None = None
    match_attribute: str | None = None


class _Devices(Struct):
    requests: list[_Request] | None = None
    constraints: list[_Constraint] | None = None


class _ClaimSpec(Struct):
    devices: _Devices = field(default_factory=_Devices)


class _Result(Struct, rename="camel"):
    driver: str = ""
    pool: str = ""
    device: str = ""
    admin_access: bool | None = None
    consumed_capacity: dict[str, str | int | float] | None = None


class _Results(Struct):
    results: list[_Result] | None = None


class _Allocation(Struct):
    devices: _Results = field(default_factory=_Results)


class _ClaimStatus(Struct):
    allocation: _Allocation | None = None


class ResourceClaim(Struct):
    """A claim as the API server has it."""

    metadata: Meta = field(default_factory=Meta)
    spec: _ClaimSpec = field(default_factory=_ClaimSpec)
    status: _ClaimStatus = field(default_factory=_ClaimStatus)


class Claim(Struct, frozen=True):
    """What is kept of a claim; `got` is None before it is allocated."""

    key: str
    requests: tuple[tuple[str, tuple["_Exactly", ...]], ...] = ()
    match: tuple[tuple[str, tuple[int, ...]], ...] = ()
    got: tuple[Given, ...] | None = None


class _ClassSpec(Struct, rename="camel"):
    selectors: list[_Selector] | None = None
    extended_resource_name: str | None = None


class DeviceClass(Struct):
    """A class as the API server has it."""

    metadata: Meta = field(default_factory=Meta)
    spec: _ClassSpec = field(default_factory=_ClassSpec)

    @property
    def selectors(self) -> tuple[str, ...]:
        """Its selectors."""
        return _expressions(self.spec.selectors)


def small(found: ResourceClaim, drivers: frozenset[str]) -> Claim:
    """The claim without what is not needed: nothing of one that has devices of other drivers."""
    devices = found.spec.devices
    requests = devices.requests or []
    names = [request.name for request in requests]
    allocation = found.status.allocation
    key = f"{found.metadata.namespace}/{found.metadata.name}"
    got = None if allocation is None else _given(allocation.devices.results or [], drivers)
    if got == ():
        return Claim(key, got=got)
    return Claim(
        key=key,
        requests=tuple((request.name, _alternatives(request)) for request in requests),
        match=tuple(
            (constraint.match_attribute, _positions(names, constraint.requests or names))
            for constraint in devices.constraints or []
            if constraint.match_attribute
        ),
        got=got,
    )


def _given(results: Sequence[_Result], drivers: frozenset[str]) -> tuple[Given, ...]:
    """Whoever only looks at a device takes nothing of it."""
    return tuple(
        Given(one.driver, one.pool, one.device, _amounts(one.consumed_capacity, one.driver))
        for one in results
        if one.driver in drivers and not one.admin_access
    )


def _alternatives(request: _Request) -> tuple[_Exactly, ...]:
    found = [request.exactly] if request.exactly is not None else request.first_available or []
    return tuple(one for one in found if not one.admin_access)


def _positions(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    mains = {one.partition("/")[0] for one in wanted}
    return tuple(at for at, name in enumerate(names) if name in mains)


def asks_of(claim: Claim, classes: Mapping[str, DeviceClass]) -> ClaimAsk:
    """What the claim asks for, with the selectors of its classes."""
    return ClaimAsk(
        requests=tuple(
            tuple(_ask(one, classes) for one in alternatives) for _, alternatives in claim.requests
        ),
        match=claim.match,
    )


def _ask(one: _Exactly, classes: Mapping[str, DeviceClass]) -> Ask:
    """A class that is not known takes nothing."""
    known = classes.get(one.device_class_name)
    of_class = known.selectors if known is not None else ("false",)
    everything = one.allocation_mode == "All"
    return Ask(
        count=ALL if everything else max(1, one.count or 1),
        selectors=(*of_class, *_expressions(one.selectors)),
        capacity=_amounts(one.capacity.requests if one.capacity else None, ""),
    )


def _expressions(selectors: Sequence[_Selector] | None) -> tuple[str, ...]:
    return tuple(one.cel.expression for one in selectors or [] if one.cel)


def _amounts(given: Mapping[str, Any] | None, driver: str) -> Counters:
    return tuple(
        (name.removeprefix(f"{driver}/"), amount(text))
        for name, text in sorted((given or {}).items())
    )
