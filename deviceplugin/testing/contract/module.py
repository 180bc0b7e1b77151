"""What holds of a vendor module, and of its vendors on trees of the nodes that it is for."""

import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from deviceplugin.config.load import RESERVED
from deviceplugin.discovery.capabilities import attribute_problem, method_problem
from deviceplugin.errors import UnavailableError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, Discovery
from deviceplugin.resources.methods import sharing_problem
from deviceplugin.testing.contract.answers import unlisted_problems
from deviceplugin.testing.contract.checks import advertised, contract_problems, shared
from deviceplugin.testing.contract.shares import share_problems
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import (
    CONTRACT,
    CdiSource,
    Closable,
    Sections,
    ShareLimits,
    Vendor,
    VendorModule,
)


def module_problems(module: VendorModule) -> list[str]:
    """Each way in which a vendor module breaks the contract without any hardware."""
    contract: object = getattr(module, "CONTRACT", CONTRACT)
    if contract != CONTRACT:
        return [f"it needs contract {contract!r}, this is {CONTRACT}"]
    if problem := attribute_problem(module):
        return [problem]
    if problems := list(_section_problems(module)):
        return problems
    if problem := sharing_problem(module, ()):
        return [problem]
    if problems := list(_creation_problems(module)):
        return problems
    with tempfile.TemporaryDirectory() as directory:
        return list(_empty_problems(module, Path(directory)))


def tree_problems(module: VendorModule, tree: str) -> list[str]:
    """Each way in which the module's vendor breaks the contract on a node that `tree` describes
    (the form of deviceplugin.testing.tree), with the defaults of its sections.

    Raises ValueError for what is not such a text.
    """
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "host")
        root.mkdir()
        write_tree(root, tree)
        try:
            vendor = module.create(Host(root), default_sections(module))
            return _limit_problems(module, vendor) or _node_problems(vendor, root)
        except UnavailableError as error:
            return [f"discover() finds none of its hardware: {error}"]
        except Exception as error:  # noqa: BLE001  # whatever it raises is what is to be said
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return [f"raises {type(error).__name__}: {error} ({where})"]


def default_sections(module: VendorModule) -> Sections:
    """The module's sections as they are in an empty configuration."""
    return {name: msgspec.convert({}, schema) for name, schema in module.SECTIONS.items()}


def _node_problems(vendor: Vendor, root: Path) -> list[str]:
    problems = contract_problems(vendor, Host(root))
    if not problems:
        problems = [*_purity_problems(vendor, root), *_close_problems(vendor)]
    return problems


def _limit_problems(module: VendorModule, vendor: Vendor) -> list[str]:
    """Of the variables that its rules may name."""
    variables: tuple[str, ...] = getattr(module, "SHARE_VARIABLES", ())
    if not variables:
        return []
    if not isinstance(vendor, ShareLimits):
        return ["SHARE_VARIABLES names variables, and there is no share_edits()"]
    return list(share_problems(vendor, shared(vendor.discover()), variables))


def _section_problems(module: VendorModule) -> Iterator[str]:
    for name, schema in module.SECTIONS.items():
        if name in RESERVED:
            yield f"section {name!r} has a name that the daemon reserves"
        if not (isinstance(schema, type) and issubclass(schema, msgspec.Struct)):
            yield f"the schema of section {name!r} is not a msgspec.Struct"
            continue
        try:
            msgspec.convert({}, schema)
        except msgspec.ValidationError as error:
            yield f"section {name!r} has no default for every key: {error}"


def _creation_problems(module: VendorModule) -> Iterator[str]:
    """Of a host that is not there at all: create() must not look."""
    try:
        vendor = module.create(Host(Path("/nonexistent")), default_sections(module))
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is to be said
        yield f"create() raises {type(error).__name__}: {error}; it must not touch the hardware"
        return
    if vendor.name != module.NAME:
        yield f"the vendor's name is {vendor.name!r}, the module's {module.NAME!r}"
    if problem := method_problem(vendor):
        yield problem


def _empty_problems(module: VendorModule, root: Path) -> Iterator[str]:
    """Of a node without any hardware, which is normal."""
    vendor = module.create(Host(root), default_sections(module))
    try:
        found = vendor.discover()
    except UnavailableError:
        return
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is to be said
        yield f"on an empty node discover() raises {type(error).__name__}, not UnavailableError"
        return
    if not isinstance(found, Discovery) or found.devices:
        yield "on an empty node discover() finds devices"


def _purity_problems(vendor: Vendor, root: Path) -> list[str]:
    """Whether container_edits() answers the same where the host cannot be read, and names no CDI
    device that has no file."""
    discovery = vendor.discover()
    asked = list(advertised(discovery))
    before = [vendor.container_edits(devices) for devices in asked]
    away = root.with_name("away")
    root.rename(away)
    try:
        after = [_edits_or_error(vendor, devices) for devices in asked]
    finally:
        away.rename(root)
    problems = [] if before == after else ["container_edits() reads the host, which may hang"]
    specs = vendor.cdi_specs(discovery.devices) if isinstance(vendor, CdiSource) else ()
    return problems + list(unlisted_problems(before, tuple(specs)))


def _edits_or_error(vendor: Vendor, devices: Sequence[Device]) -> ContainerEdits | str:
    try:
        return vendor.container_edits(devices)
    except Exception as error:  # noqa: BLE001  # compared with what it gave before
        return str(error)


def _close_problems(vendor: Vendor) -> Iterator[str]:
    if not isinstance(vendor, Closable):
        return
    try:
        vendor.close()
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is to be said
        yield f"close() raises {type(error).__name__}: {error}"
