"""The house as docs/architecture.md shows it is the house as it is, and it keeps its measures."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "deviceplugin"
DOCUMENT = (ROOT / "docs/architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
MODULES = sorted(path for path in CODE.rglob("*.py") if CODE / "pb" not in path.parents)
TOP_FILES, MODULE_LINES, FUNCTION_LINES = 10, 300, 25
# Functions over the measure, each with the reason why parts of it would be no easier to read.
LONG: Mapping[str, str] = {}  # a function with its reason
Function = ast.FunctionDef | ast.AsyncFunctionDef


def rooms() -> set[str]:
    """Every folder and every top-level file of the package, as the document names them."""
    folders = {path.name for path in CODE.iterdir() if (path / "__init__.py").exists()}
    files = {path.name for path in CODE.glob("*.py") if not path.name.startswith("__")}
    return folders | files


def layers() -> list[str]:
    """The layers of the contract that is about the whole package, highest first."""
    (found,) = (
        one["layers"]
        for one in CONTRACTS["contracts"]
        if one["type"] == "layers" and one["containers"] == ["deviceplugin"]
    )
    return list(found)


def room_of(path: Path) -> str:
    return path.relative_to(CODE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "deviceplugin":
            names = [f"deviceplugin.{alias.name}" for alias in node.names]
        else:
            names = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".")[1] for name in names if name.startswith("deviceplugin."))


def room_imports() -> Mapping[str, set[str]]:
    """The rooms that each room imports; the program's entry is in none."""
    found: dict[str, set[str]] = {}
    for path in MODULES:
        if (room := room_of(path)) not in ("__init__", "__main__"):
            found.setdefault(room, set()).update(set(imported(path)) - {room, "pb"})
    return found


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """The functions of a module with their full names."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, Function | ast.ClassDef)
            name = f"{prefix}{child.name}" if isinstance(child, Function | ast.ClassDef) else prefix
            if isinstance(child, Function):
                yield name, child
            yield from below(child, f"{name}." if named else prefix)

    yield from below(ast.parse(path.read_text()), "")


def code_lines(function: Function, lines: list[str]) -> int:
    """Lines of the body that are neither empty nor a comment nor its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    inside = lines[body[0].lineno - 1 : function.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in inside)


def test_the_document_names_every_room_and_nothing_else() -> None:
    (table,) = re.findall(r"(?m)^\| Room .*\n((?:\|.*\n)+)", DOCUMENT)
    named = re.findall(r"(?m)^\| `([^`]+)` \|", table)
    assert sorted(named) == sorted(rooms())


def test_the_document_shows_the_layers_of_the_contract() -> None:
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```$", DOCUMENT)
    assert layers() in [[line.strip() for line in block.splitlines()] for block in blocks]


def test_every_room_is_in_one_layer() -> None:
    placed = [name for layer in layers() for name in re.findall(r"\w+", layer)]
    assert sorted(placed) == sorted(name.removesuffix(".py") for name in rooms())


def test_few_files_lie_at_the_top() -> None:
    files = sorted(path.name for path in CODE.glob("*.py"))
    assert len(files) <= TOP_FILES, files


def test_no_rooms_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(room_imports()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_modules_are_short() -> None:
    lengths = {str(p.relative_to(CODE)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: count for name, count in lengths.items() if count > MODULE_LINES} == {}


def test_functions_are_short_or_listed_with_a_reason() -> None:
    long = {}
    for path in MODULES:
        lines = path.read_text().splitlines()
        for name, function in functions(path):
            if (count := code_lines(function, lines)) > FUNCTION_LINES:
                long[f"{path.relative_to(CODE)}:{name}"] = count
    assert long.keys() - LONG.keys() == set(), long
    assert LONG.keys() - long.keys() == set(), "these are short now: take them off the list"
