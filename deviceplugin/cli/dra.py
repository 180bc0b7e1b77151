"""The commands `dra`: the slices of this node and what a selector takes of them."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from deviceplugin.cli.cel import CelError, Expression
from deviceplugin.cli.progress import progress
from deviceplugin.config.config import Config
from deviceplugin.discovery.loop import look_once
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.dra.driver import Driver
from deviceplugin.dra.gates import ON_SINCE
from deviceplugin.dra.names import driver_of
from deviceplugin.dra.report import dra_document
from deviceplugin.dra.section import dra_section
from deviceplugin.dra.wiring import Wiring
from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubernetes.api import InCluster
from deviceplugin.model import Device, DeviceID
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.plan import sharing_of
from deviceplugin.resources.section import Offer
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.tables import table
from deviceplugin.vendor import VendorModule

Document = dict[str, Any]
ABSENT = "-"


class _Nobody:
    """Nothing is asked when only slices are planned."""

    absent = True

    async def ask(self) -> None:
        pass

    def allocating(self) -> AbstractContextManager[None]:
        return nullcontext()


async def _no_edits(device: Device) -> tuple[Any, Any]:
    raise VendorError(f"{device.id} is given to nobody here")


async def look_dra(
    config: Config, modules: Sequence[VendorModule], minor: int = ON_SINCE
) -> Document:
    """The slices that the hardware as it is now makes; nothing is claimed."""
    store = InventoryStore(time.time)
    host = Host(config.host_root)
    vendors = await create_vendors(modules, host, config.sections, store.set_status)
    order = tuple(vendor.name for vendor in vendors)
    with progress("asking the drivers of this node"):
        await asyncio.gather(*(look_once(vendor, store, order) for vendor in vendors))
    wiring = _wiring(config, store)
    section = dra_section(config.sections)
    devices = wiring.published(store.current, section)
    names = sorted({driver_of(device, section) for device in devices})
    drivers = [Driver(name, config, section, wiring) for name in names]
    return dra_document(config.node_name, drivers, minor)


def _wiring(config: Config, store: InventoryStore) -> Wiring:
    """What a driver needs that only says what it would publish, by the rules of `config`."""
    forms: dict[DeviceID, list[Offer]] = {}
    apis: dict[DeviceID, tuple[str, ...]] = {}
    for one in sharing_of(config.sections).offerings(store.current):
        forms.setdefault(one.device.id, []).append(one.offer)
        if one.apis is not None:
            apis[one.device.id] = one.apis
    return Wiring(
        store=store,
        ledger=Ledger(time.monotonic),
        source=_Nobody(),
        described=_no_edits,
        keeper=Keeper(),
        api=InCluster(),
        forms=lambda _: forms,
        apis=lambda _: apis,
    )


def slices_text(document: Document) -> str:
    """The document as tables."""
    return "\n\n".join(_slices(document)) + "\n"


def _slices(document: Document) -> Iterator[str]:
    if not document["drivers"]:
        yield f"{document['node']}: no device that claims may have"
    for driver in document["drivers"]:
        what = f"{len(driver['devices'])} devices in {driver['slices']} slices"
        yield f"{driver['driver']}, pool {driver['pool']}: {what}"
        rows = [_row(device) for device in driver["devices"]]
        if rows:
            yield table(("DEVICE", "TYPE", "ID", "CAPACITY", "TAINTS", "CLAIMS"), rows)
        yield from (f"left out: {text}" for text in driver["left_out"])
        if driver["problem"]:
            yield f"problem: {driver['problem']}"


def _row(device: Document) -> tuple[str, ...]:
    capacity = [f"{key}={value}" for key, value in device["capacity"].items()]
    kind = device["attributes"].get("type", {}).get("string", ABSENT)
    cells = (capacity, device["taints"], device["claims"])
    several = " (several times)" if device["several"] else ""
    joined = tuple(", ".join(cell) or ABSENT for cell in cells)
    return (device["name"] + several, kind, device["id"] or ABSENT, *joined)


def matched(document: Document, expression: str) -> Document:
    """Each device with what a selector says of it; raises ConfigError for one that is none."""
    compiled = Expression(expression)
    devices = [
        {"driver": driver["driver"], "name": device["name"], "id": device["id"]}
        | _judged(compiled, driver["driver"], device)
        for driver in document["drivers"]
        for device in driver["devices"]
    ]
    return {"node": document["node"], "expression": expression, "devices": devices}


def taken(document: Document) -> Iterable[str]:
    """The devices that the selector takes."""
    return [one["name"] for one in document["devices"] if one["matches"]]


def published(document: Document) -> Iterable[str]:
    """Every device of the slices."""
    return [one["name"] for driver in document["drivers"] for one in driver["devices"]]


def _judged(compiled: Expression, driver: str, device: Document) -> Document:
    """An error is no answer: `matches` is none then."""
    try:
        return {"matches": compiled.matches(driver, device), "error": None}
    except CelError as error:
        return {"matches": None, "error": str(error)}


def match_text(document: Document) -> str:
    """The document as a table, and what errors mean."""
    rows = [
        (one["driver"], one["name"], one["id"] or ABSENT, _verdict(one))
        for one in document["devices"]
    ]
    found = sum(one["matches"] is True for one in document["devices"])
    lines = [f"{found} of {len(rows)} devices match"]
    if has_errors(document):
        lines.append("on an error nothing is allocated on this node; what a device may lack:")
        lines.append('device.attributes["gpu.nvidia.com"].?profile.orValue("") == "1g.5gb"')
    shown = [table(("DRIVER", "DEVICE", "ID", "MATCHES"), rows)] if rows else []
    return "\n\n".join((*shown, "\n".join(lines))) + "\n"


def has_errors(document: Document) -> bool:
    """Whether the selector ends with an error on a device."""
    return any(one["error"] for one in document["devices"])


def _verdict(one: Document) -> str:
    if one["error"]:
        return f"error: {one['error']}"
    return "yes" if one["matches"] else "no"


def dra_remarks(document: Document) -> Iterator[str]:
    """What `check --node` says of the slices that this node would have."""
    for driver in document["drivers"]:
        what = f"{len(driver['devices'])} devices in {driver['slices']} slices"
        yield f"dra: driver {driver['driver']} publishes {what}"
        yield from (f"dra: {driver['driver']}: {text}" for text in driver["left_out"])
