"""What a vendor of ours imports: what a third party's may, and its own modules."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deviceplugin

ROOT = Path(deviceplugin.__file__).parent
PUBLIC = {
    "model",
    "errors",
    "vendor",
    "schema",
    "names",
    "edits",
    "faults",
    "files",
    "host",
}
# The messages of a vendor's own agent, imported where it has answered.
MESSAGES = {
    f"deviceplugin.pb.exporter_{name}_pb2": f"{name}/agent.py"
    for name in ("amd", "intel", "nvidia")
}
FILES = sorted((ROOT / "vendors").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "vendors")))
def test_a_vendor_imports_the_public_modules_and_its_own(path: Path) -> None:
    file = str(path.relative_to(ROOT / "vendors"))
    own = f"deviceplugin.vendors.{file.partition('/')[0]}"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "deviceplugin" or MESSAGES.get(name) == file:
            continue
        assert parts[1] in PUBLIC or name.startswith((f"{own}.", own)), name
