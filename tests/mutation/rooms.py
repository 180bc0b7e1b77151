"""What is mutated, and the tests in process that should notice."""

import ast
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "deviceplugin"

CORE = (
    "resources/*.py",
    "placement/*.py",
    "kubelet/plugin.py",
    "kubelet/retention.py",
    "kubelet/wire.py",
    "kubelet/lifecycle.py",
    "discovery/admission.py",
    "health/policy.py",
    "health/records.py",
    "inventory/conditions.py",
    "config/yaml.py",
    "config/schema.py",
    "schema.py",
    "names.py",
    "edits.py",
    "cdi/spec.py",
)
# What it starts are processes, and so do its tests.
PROCESSES = ("resources/program.py", "resources/programs.py")
# What else a vendor has reads the host or asks a driver.
VENDORS = (
    "vendors/nvidia/edits.py",
    "vendors/nvidia/events.py",
    "vendors/nvidia/mig.py",
    "vendors/nvidia/xids.py",
    "vendors/amd/kfd.py",
    "vendors/amd/partitions.py",
    "vendors/amd/virtual_functions.py",
    "vendors/intel/memory.py",
    "vendors/intel/quota.py",
    "vendors/intel/virtual_functions.py",
)
# Its own folder tests a room; these are tested in others as well.
_TESTS = {
    "names": ("resources", "config", "discovery", "cdi"),
    "schema": ("resources", "config", "placement"),
    "edits": ("resources", "kubelet", "discovery", "vendors/nvidia"),
    "cdi": ("cdi", "discovery"),
    "resources": ("resources", "kubelet"),
    "placement": ("placement", "resources"),
    "config": ("config", "resources"),
    "inventory": ("inventory", "health"),
}


def modules(patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns name below the package, without those that only hold a docstring
    or start processes.

    ValueError: a pattern names none.
    """
    found: list[Path] = []
    processes = {PACKAGE / name for name in PROCESSES}
    for pattern in patterns:
        paths = sorted(set(PACKAGE.glob(pattern)) - processes)
        if not paths:
            raise ValueError(f"{pattern}: no such file below {PACKAGE}")
        found += [path for path in paths if len(ast.parse(path.read_text()).body) > 1]
    return found


def tests_of(module: Path) -> list[str]:
    """The folders of tests that a module's tests are in."""
    place = module.relative_to(PACKAGE).with_suffix("").parts
    own = "/".join(place[: 2 if place[0] == "vendors" else 1])
    folders = _TESTS.get(own, (own,))
    named = [ROOT / "tests" / folder for folder in (*folders, "field")]
    return [str(path.relative_to(ROOT)) for path in named if path.is_dir()]
