"""Installed vendor modules, found by entry point only: third parties use the same door."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import msgspec

from deviceplugin.errors import ConfigError, VendorError
from deviceplugin.health.section import defaults_problem
from deviceplugin.host import Host
from deviceplugin.model import VendorStatus
from deviceplugin.resources.methods import sharing_problem
from deviceplugin.runtime.entry_points import EntryPoint, entry_points
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor import Sections, Vendor, VendorModule

GROUP = "deviceplugin.vendors"


CREATE_S = 5.0


_OWN = "deviceplugin.vendors."


def installed_vendors() -> Mapping[str, EntryPoint]:
    """The entry points of all installed vendors by name, without importing them.

    Those that come with us stand first, and of two of one name the first counts: that is the order
    in which vendors have ids and names that several of them claim.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(GROUP), key=_rank):
        found.setdefault(point.name, point)
    return found


def load_vendors(
    names: tuple[str, ...] | None,
    skip: Callable[[VendorStatus], None] = lambda _: None,
) -> tuple[VendorModule, ...]:
    """Import the vendor modules `names` (None: all that are installed), in that order.

    Raises ConfigError for a name that is not installed or a module that cannot be used. Where all
    are meant, a module that cannot be used is left out and told to `skip`.
    """
    installed = installed_vendors()
    modules: list[VendorModule] = []
    for name in names or tuple(installed):
        try:
            modules.append(_load(name, installed, modules))
        except ConfigError as error:
            if names is not None:
                raise
            skip(VendorStatus(name=name, error=str(error)))
    return tuple(modules)


async def create_vendors(
    modules: Iterable[VendorModule],
    host: Host,
    sections: Sections,
    skip: Callable[[VendorStatus], None],
) -> tuple[Vendor, ...]:
    """The vendors of `modules`, each made on a thread of its own within CREATE_S seconds.

    One that fails, hangs or is no vendor is left out and told to `skip`.
    """
    vendors: list[Vendor] = []
    for module in modules:
        thread = DriverThread(f"{module.NAME}-create")
        try:
            make = partial(_create, module, host, sections)
            vendors.append(await thread.call(make, CREATE_S))
        except VendorError as error:
            skip(VendorStatus(name=module.NAME, error=str(error)))
        finally:
            thread.close()
    return tuple(vendors)


def _create(module: VendorModule, host: Host, sections: Sections) -> Vendor:
    """Raises VendorError, like whatever calls us, for something that is no vendor."""
    vendor = module.create(host, sections)
    if vendor.name != module.NAME:
        raise VendorError(f"create() made a vendor of the name {vendor.name!r}")
    for method in ("discover", "container_edits"):
        if not callable(getattr(vendor, method, None)):
            raise VendorError(f"create() made a vendor without {method}()")
    return vendor


def _load(
    name: str, installed: Mapping[str, EntryPoint], others: Sequence[VendorModule]
) -> VendorModule:
    if name not in installed:
        raise ConfigError("vendors", name, "one of " + ", ".join(installed))
    try:
        module = cast("VendorModule", installed[name].load())
        problem = _problem(name, module, others)
    except (Exception, SystemExit) as error:  # a broken plug-in must be named, not crash us
        text = f"an importable vendor module ({type(error).__name__}: {error})"
        raise ConfigError("vendors", name, text) from error
    if problem:
        raise ConfigError("vendors", name, f"a usable vendor module ({problem})")
    return module


def _problem(name: str, module: VendorModule, others: Sequence[VendorModule]) -> str | None:
    """Why a module is none, None where it fulfils VendorModule."""
    if getattr(module, "NAME", None) != name:
        return f"its NAME is {getattr(module, 'NAME', None)!r}"
    if not callable(getattr(module, "create", None)):
        return "it has no create()"
    taken = {key for other in others for key in other.SECTIONS}
    for key, schema in module.SECTIONS.items():
        if key in taken:
            return f"its section {key!r} is that of another vendor"
        if not (isinstance(schema, type) and issubclass(schema, msgspec.Struct)):
            return f"the schema of its section {key!r} is no msgspec.Struct"
        msgspec.convert({}, schema)  # a section that is not given has its defaults
    health = defaults_problem(name, getattr(module, "HEALTH_DEFAULTS", None))
    return health or sharing_problem(module, others)


def _rank(point: EntryPoint) -> tuple[bool, str, str]:
    return (not point.value.startswith(_OWN), point.name, point.value)
