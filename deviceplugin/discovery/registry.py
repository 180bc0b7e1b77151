"""Installed vendor modules, found by entry point only: third parties use the same door."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
from msgspec.structs import replace

from deviceplugin.discovery.capabilities import attribute_problem, method_problem
from deviceplugin.errors import ConfigError, VendorError
from deviceplugin.health.section import defaults_problem
from deviceplugin.host import Host
from deviceplugin.model import VendorStatus
from deviceplugin.resources.methods import sharing_problem
from deviceplugin.runtime.entry_points import EntryPoint, entry_points
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor import CONTRACT, Sections, Vendor, VendorModule

GROUP = "deviceplugin.vendors"


CREATE_S = 5.0


_OWN = "deviceplugin.vendors."


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor modules that can be used, in order, and why the others of those asked for cannot
    be, by vendor; `unasked` are installed and not imported."""

    modules: tuple[VendorModule, ...]
    refused: Mapping[str, ConfigError]
    unasked: tuple[str, ...] = ()

    def chosen(self, names: Sequence[str] | None) -> tuple[VendorModule, ...]:
        """The modules of these vendors (None: of all), in this order.

        Raises the ConfigError of one that is named and cannot be used.
        """
        if names is None:
            return self.modules
        for name in names:
            if name in self.refused:
                raise self.refused[name]
        return tuple(m for name in names for m in self.modules if name == m.NAME)


def installed_vendors() -> Mapping[str, EntryPoint]:
    """The entry points of all installed vendors by name, without importing them.

    Those that come with us stand first, and of two of one name the first counts: that is the order
    in which vendors have ids and names that several of them report.
    """
    found: dict[str, EntryPoint] = {}
    for point in _all_vendors():
        found.setdefault(point.name, point)
    return found


def shadowed_vendors() -> Sequence[tuple[EntryPoint, EntryPoint]]:
    """Each entry point that is never used because another one has its name, and that one before
    it."""
    used = installed_vendors()
    return [(used[p.name], p) for p in _all_vendors() if p != used[p.name]]


def shadowed_text(used: EntryPoint, ignored: EntryPoint) -> str:
    """One line that says which of two packages serves a vendor."""
    return (
        f"two installed packages have a vendor of the name {used.name!r}: {used.value} of"
        f" {used.origin} is used, {ignored.value} of {ignored.origin} is ignored"
    )


def load_installed(reserved: Collection[str] = (), asked: Sequence[str] | None = None) -> Loaded:
    """Import the vendor modules that are `asked` for (None: all that are installed), and our own,
    whose sections every file may have; no section may have a `reserved` name.

    What is imported runs as root: a package that is merely installed does not.
    """
    wanted: list[str] = []
    unasked: list[str] = []
    for name, point in installed_vendors().items():
        own = point.value.startswith(_OWN)
        (wanted if asked is None or name in asked or own else unasked).append(name)
    return replace(_load_each(wanted, reserved), unasked=tuple(unasked))


def load_vendors(
    names: tuple[str, ...] | None, skip: Callable[[VendorStatus], None] = lambda _: None
) -> tuple[VendorModule, ...]:
    """Import the vendor modules `names` (None: all that are installed), in that order.

    Raises ConfigError for a name that is not installed or a module that cannot be used. Where all
    are meant, a module that cannot be used is left out and given to `skip`.
    """
    loaded = _load_each(names or tuple(installed_vendors()), ())
    for name, error in loaded.refused.items():
        skip(VendorStatus(name=name, error=str(error)))
    return loaded.chosen(names)


async def create_vendors(
    modules: Iterable[VendorModule],
    host: Host,
    sections: Sections,
    skip: Callable[[VendorStatus], None],
) -> tuple[Vendor, ...]:
    """The vendors of `modules`, each made on a thread of its own within CREATE_S seconds.

    One that fails, hangs or does not keep to the contract is left out and given to `skip`.
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
    """Raises VendorError, like whatever calls us, for something that is not a vendor."""
    vendor = module.create(host, sections)
    if vendor.name != module.NAME:
        raise VendorError(f"create() made a vendor of the name {vendor.name!r}")
    if problem := method_problem(vendor):
        raise VendorError(f"create() made what is not a vendor: {problem}")
    return vendor


def _load_each(names: Iterable[str], reserved: Collection[str]) -> Loaded:
    installed = installed_vendors()
    modules: list[VendorModule] = []
    refused: dict[str, ConfigError] = {}
    for name in names:
        try:
            module = _load(name, installed, modules)
            _check_sections(module, modules, reserved, installed)
        except ConfigError as error:
            refused[name] = error
        else:
            modules.append(module)
    return Loaded(modules=tuple(modules), refused=refused)


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
        raise _unusable(name, problem)
    return module


def _unusable(name: str, problem: str) -> ConfigError:
    return ConfigError("vendors", name, f"a usable vendor module ({problem})")


def _problem(name: str, module: VendorModule, others: Sequence[VendorModule]) -> str | None:
    """Why a module is not a vendor module, None where it fulfils VendorModule."""
    contract: object = getattr(module, "CONTRACT", CONTRACT)
    if contract != CONTRACT:
        return f"it needs contract {contract!r}, this daemon has {CONTRACT}"
    if problem := attribute_problem(module):
        return problem
    if name != module.NAME:
        return f"its NAME is {module.NAME!r}"
    if not callable(getattr(module, "create", None)):
        return "it has no create()"
    for key, schema in module.SECTIONS.items():
        if not (isinstance(schema, type) and issubclass(schema, msgspec.Struct)):
            return f"the schema of its section {key!r} is not a msgspec.Struct"
        msgspec.convert({}, schema)  # a section that is not given has its defaults
    health = defaults_problem(name, getattr(module, "HEALTH_DEFAULTS", None))
    return health or sharing_problem(module, others)


def _check_sections(
    module: VendorModule,
    others: Iterable[VendorModule],
    reserved: Collection[str],
    installed: Mapping[str, EntryPoint],
) -> None:
    """Raise ConfigError for a section that is not the vendor's to have."""
    owners = {key: other.NAME for other in others for key in other.SECTIONS}
    for key in module.SECTIONS:
        if key in reserved:
            raise _unusable(module.NAME, f"its section {key!r} has a name that the daemon reserves")
        if key in owners:
            owner = owners[key]
            text = (
                f"its section {key!r} is that of vendor {owner!r}"
                f" ({installed[owner].origin}) too; the two cannot be installed together"
            )
            raise _unusable(module.NAME, text)


def _all_vendors() -> Sequence[EntryPoint]:
    points = entry_points(GROUP)
    if not any(point.value.startswith(_OWN) for point in points):
        points = (*points, *_uninstalled())
    return sorted(points, key=_rank)


def _uninstalled() -> Iterator[EntryPoint]:
    """Ours, where the program runs from its folder without having been installed."""
    for file in (Path(__file__).parents[1] / "vendors").glob("*/__init__.py"):
        yield EntryPoint(file.parent.name, f"{_OWN}{file.parent.name}", "deviceplugin")


def _rank(point: EntryPoint) -> tuple[bool, str, str]:
    return (not point.value.startswith(_OWN), point.name, point.value)
