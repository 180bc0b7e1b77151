"""What other commands show of claims: who has a device, and a line for each driver."""

from collections.abc import Mapping
from typing import Any

from deviceplugin.cli.ask import ask
from deviceplugin.runtime.control import ControlError

Document = dict[str, Any]


def claims_of(state_dir: str | None) -> Document | None:
    """The slices and claims of the running daemon, None where it has none to tell of."""
    try:
        return ask(state_dir, {"operation": "dra"})
    except ControlError:
        return None


def with_slices(document: Document, slices: Document | None) -> Document:
    """The document of `discover` with a line for each driver, where claims are served."""
    if slices is None:
        return document
    return {**document, "dra": [_summary(driver) for driver in slices["drivers"]]}


def _summary(driver: Document) -> Document:
    return {
        "driver": driver["driver"],
        "slices": driver["slices"],
        "devices": len(driver["devices"]),
        "tainted": sum(bool(one["taints"]) for one in driver["devices"]),
        "claims": {one["name"]: one["claims"] for one in driver["devices"] if one["claims"]},
    }


def claimed(slices: Document | None) -> Mapping[str, str]:
    """Who has a device by a claim, by the device's id."""
    drivers = slices["drivers"] if slices else ()
    return {
        one["id"]: ", ".join(one["claims"])
        for driver in drivers
        for one in driver["devices"]
        if one["claims"] and one["id"]
    }


def with_holders(document: Document | None, state_dir: str | None) -> Document | None:
    """The running daemon's document of `explain` with the claims that hold devices."""
    holders = claimed(claims_of(state_dir)) if document is not None else {}
    return {**document, "claims": dict(holders)} if document and holders else document
