"""`deviceplugin vendors`: the installed vendors, and what the daemon takes up of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.config.config import Config
from deviceplugin.discovery.capabilities import capabilities_of
from deviceplugin.discovery.registry import create_vendors, installed_vendors, shadowed_vendors
from deviceplugin.host import Host
from deviceplugin.model import VendorStatus
from deviceplugin.runtime.entry_points import EntryPoint
from deviceplugin.runtime.tables import table
from deviceplugin.vendor import CONTRACT, Vendor, VendorModule

Document = dict[str, Any]


async def describe_vendors(config: Config, modules: Sequence[VendorModule]) -> Document:
    """Every installed vendor: its package and module, whether it is served, its sections, the
    optional parts of the contract that it takes up, and why it is not used, if it is not.

    Vendors are created and asked nothing: no hardware is touched.
    """
    refused = list(config.skipped)
    vendors = await create_vendors(modules, Host(config.host_root), config.sections, refused.append)
    served = {vendor.name: vendor for vendor in vendors}
    by_name = {module.NAME: module for module in modules}
    return {
        "contract": CONTRACT,
        "vendors": [
            _entry(point, by_name.get(name), served.get(name), _reason(name, refused))
            for name, point in installed_vendors().items()
        ],
        "ignored": [
            _origin(ignored) | {"reason": f"{used.value} of {used.origin} has this name"}
            for used, ignored in shadowed_vendors()
        ],
    }


def _entry(
    point: EntryPoint, module: VendorModule | None, vendor: Vendor | None, error: str | None
) -> Document:
    known = capabilities_of(module, vendor) if module and vendor else None
    return _origin(point) | {
        "contract": getattr(module, "CONTRACT", CONTRACT) if module else None,
        "served": vendor is not None,
        "sections": sorted(module.SECTIONS) if module else [],
        "methods": list(known.methods) if known else [],
        "attributes": list(known.attributes) if known else [],
        "not_in_contract": list(known.others) if known else [],
        "error": error,
    }


def _origin(point: EntryPoint) -> Document:
    return {
        "name": point.name,
        "package": point.package,
        "version": point.version,
        "module": point.value,
    }


def _reason(name: str, refused: Sequence[VendorStatus]) -> str | None:
    return next((status.error for status in refused if status.name == name), None)


def vendors_text(document: Document) -> str:
    """The document for people's terminals."""
    return "\n\n".join(_parts(document)) + "\n"


def _parts(document: Document) -> Iterator[str]:
    yield f"Contract {document['contract']}"
    yield table(
        ("VENDOR", "PACKAGE", "VERSION", "MODULE", "CONTRACT", "SECTIONS", "TAKES UP"),
        [_row(vendor) for vendor in document["vendors"]],
    )
    for vendor in document["vendors"]:
        if vendor["error"]:
            yield f"{vendor['name']} is not used: {vendor['error']}"
        elif not vendor["served"]:
            yield f"{vendor['name']} is not served: `vendors` does not name it"
        if vendor["not_in_contract"]:
            names = ", ".join(f"{name}()" for name in vendor["not_in_contract"])
            yield f"{vendor['name']}: not a part of the contract, never called: {names}"
    for ignored in document["ignored"]:
        package = " ".join(filter(None, (ignored["package"], ignored["version"])))
        yield f"{ignored['name']} of {package} is ignored: {ignored['reason']}"


def _row(vendor: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        vendor["name"],
        vendor["package"],
        vendor["version"] or "-",
        vendor["module"],
        str(vendor["contract"] or "-"),
        ", ".join(vendor["sections"]) or "-",
        ", ".join([*vendor["methods"], *vendor["attributes"]]) or "-",
    )
