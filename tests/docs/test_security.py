"""Each sentence of docs/security.md about a neighbour is held by a test, or says why none can."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "deviceplugin"
DOCUMENT = (ROOT / "docs/security.md").read_text()
PART = DOCUMENT.split("## What each neighbour can and cannot do")[1].split("\n## ")[0]
NEIGHBOURS = re.split(r"(?m)^### ", PART)[1:]
ROWS = [
    (neighbour.partition("\n")[0], said, held)
    for neighbour in NEIGHBOURS
    for said, held in re.findall(r"(?m)^\| (?!It |They |---)(.+) \| (.+) \|$", neighbour)
]


def test_every_kind_of_neighbour_can_and_cannot_do_something() -> None:
    assert len(NEIGHBOURS) >= 7
    for neighbour in NEIGHBOURS:
        assert re.search(r"(?m)^\| (It|They) can \|", neighbour), neighbour
        assert re.search(r"(?m)^\| (It|They) cannot \|", neighbour), neighbour


def functions(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(
    ("said", "held"),
    [row[1:] for row in ROWS],
    ids=[f"{who}: {said[:40]}" for who, said, _ in ROWS],
)
def test_a_sentence_is_held_by_tests_that_exist_or_by_a_reason(said: str, held: str) -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", held)
    assert named or len(held.removeprefix("*why*: ")) > 20, said
    assert named or held.startswith("*why*: ")
    for path, name in named:
        assert name in functions(ROOT / path), f"{path} has no {name}"


RUN = {"eval", "exec", "compile", "__import__"}
LOADERS = {"pickle", "marshal", "shelve", "dill", "code", "runpy"}
SHELLS = {"system", "popen", "getoutput", "create_subprocess_shell"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Names of calls and modules that turn text or bytes into something that runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in RUN:
                yield node.func.id
            if isinstance(node.func, ast.Attribute) and node.func.attr in SHELLS:
                yield node.func.attr
            shells = [k for k in node.keywords if k.arg == "shell"]
            if any(not isinstance(k.value, ast.Constant) or k.value.value for k in shells):
                yield "shell="
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in LOADERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LOADERS:
            yield str(node.module)


def test_no_text_is_ever_run() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {danger}"
        for path in CODE.rglob("*.py")
        for danger in dangers(ast.parse(path.read_text()))
    }
    assert found == set()


@pytest.mark.parametrize(
    "text",
    ["eval(x)", "import pickle", "from marshal import loads", "os.system(x)", "run(x, shell=True)"],
)
def test_what_would_run_text_is_found(text: str) -> None:
    assert list(dangers(ast.parse(text)))
