"""What the drivers publish and which claims have it, as the command `dra` shows it."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deviceplugin.dra.driver import Driver
from deviceplugin.dra.gates import ON_SINCE
from deviceplugin.dra.holders import holder_text
from deviceplugin.errors import ConfigError
from deviceplugin.model import Device

Document = dict[str, Any]
_RELEASE = re.compile(r"1\.(3[4-9]|[4-9]\d)")


def minor_of(release: str) -> int:
    """`1.34` as 34, the newest that is known for no text; raises ConfigError."""
    found = _RELEASE.fullmatch(release)
    if release and found is None:
        raise ConfigError("--release", release[:20], "a release of Kubernetes from 1.34 on")
    return int(found[1]) if found else ON_SINCE


def dra_document(node: str, drivers: Iterable[Driver], minor: int = ON_SINCE) -> Document:
    """The drivers with their devices, as a slice for that minor release has them."""
    return {"node": node, "drivers": [_driver(driver, node, minor) for driver in drivers]}


def _driver(driver: Driver, node: str, minor: int) -> Document:
    plan = driver.plan(minor)
    names = driver.names()
    published = [one for spec in plan.specs for one in spec.get("devices") or ()]
    return {
        "driver": driver.name,
        "pool": node,
        "slices": len(plan.specs),
        "problem": "; ".join(driver.problems()),
        "left_out": list(plan.dropped),
        "devices": [_device(driver, one, names.get(one["name"])) for one in published],
    }


def _device(driver: Driver, published: Document, device: Device | None) -> Document:
    """`id` and `nodes` are those of the inventory, none for what is not made yet."""
    return {
        "name": published["name"],
        "id": device.id if device else None,
        "nodes": list(device.nodes) if device else [],
        "attributes": published.get("attributes", {}),
        "capacity": {key: one["value"] for key, one in published.get("capacity", {}).items()},
        "several": published.get("allowMultipleAllocations", False),
        "taints": [_taint(taint) for taint in published.get("taints", ())],
        "claims": sorted(_claims(driver, published["name"])),
    }


def _taint(taint: Document) -> str:
    """As kubectl writes it."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _claims(driver: Driver, name: str) -> Iterator[str]:
    for entry in driver.claims.entries.values():
        if any(one.name == name for one in entry.devices):
            yield holder_text(entry.ref).removeprefix("claim ")
