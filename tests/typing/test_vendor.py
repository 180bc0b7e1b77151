"""The public interface: complete, alone in importing nobody's inside, and typed."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NewType

import pytest

from deviceplugin import api
from deviceplugin.api import (
    CONTRACT,
    AgentSource,
    CdiSource,
    Closable,
    Glance,
    HealthMonitor,
    HealthProbe,
    Host,
    Policy,
    Readings,
    ShareLimits,
    Vendor,
    VendorModule,
)
from tests.typing import vendor as third_party

NOWHERE = Host(Path("/nonexistent"))
DEFAULTS = {"typed": third_party.TypedSection()}
GROUND = ("edits", "errors", "faults", "model", "names", "schema", "vendor")


def test_mypy_takes_a_third_partys_vendor_for_one() -> None:
    module: VendorModule = third_party
    vendor: Vendor = module.create(
        Host(Path("/nonexistent")), {"typed": third_party.TypedSection()}
    )
    policy: Policy = third_party.policy
    assert (module.NAME, vendor.name, callable(policy)) == ("typed", "typed", True)
    assert third_party.CONTRACT == CONTRACT


@pytest.mark.parametrize(
    "protocol",
    [AgentSource, Glance, HealthMonitor, HealthProbe, CdiSource, Closable, Readings, ShareLimits],
    ids=lambda p: p.__name__,
)
def test_a_third_partys_vendor_has_each_optional_part(protocol: type) -> None:
    made = third_party.create(NOWHERE, DEFAULTS)
    assert isinstance(made, protocol)


@pytest.mark.parametrize("name", GROUND)
def test_a_ground_module_says_what_of_it_is_public(name: str) -> None:
    module = import_module(f"deviceplugin.{name}")
    assert set(module.__all__) <= set(vars(module))
    assert defined(module) - set(module.__all__) == set()


def defined(module: ModuleType) -> set[str]:
    """The public classes and functions that a module, or a part of it, defines."""
    values = vars(module).items()
    return {
        name
        for name, value in values
        if isinstance(value, type | FunctionType | NewType)
        and not name.startswith("_")
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }


@pytest.mark.parametrize("name", ["vendor", "errors"])
def test_the_interface_has_everything_of_the_contract(name: str) -> None:
    private = {"RegistrationError"}
    module = import_module(f"deviceplugin.{name}")
    assert defined(module) - private <= set(api.__all__)


def test_the_interface_exports_what_it_imports_in_order() -> None:
    assert all(hasattr(api, name) for name in api.__all__)
    tree = ast.parse(Path(api.__file__).read_text())
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(api.__all__)


def test_nothing_of_this_package_imports_the_interface() -> None:
    root = Path(api.__file__).parent
    users = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if "deviceplugin.api" in path.read_text() and path.name != "api.py"
    ]
    assert users == []


@pytest.mark.slow
def test_the_interface_loads_no_grpc_and_no_daemon() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, deviceplugin.api; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(loaded.stdout.split())
    assert names.isdisjoint({"grpc", "asyncio", "click", "structlog", "deviceplugin.daemon"})
