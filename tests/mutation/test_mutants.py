"""The faults themselves: which there are, and that tests in a child see them."""

import ast
import subprocess
import sys

import pytest

from tests.mutation import rooms, runs
from tests.mutation.equivalent import all_equivalents
from tests.mutation.mutants import mutants


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("a < b", {"a <= b"}),
        ("a not in b", {"a in b"}),
        ("a and b", {"a or b", "a", "b"}),
        ("a or b or c", {"a and b and c", "a or b", "a or c", "b or c"}),
        ("not a", {"a"}),
        ("a + 1", {"a - 1", "2"}),
        ("x = True", {"False"}),
        ("x = 'word'", {"'wordX'"}),
        ("x = 'a message'", set()),
        ("f'{a}: {b + c}'", {"b - c"}),
        ("f'{a}={b}'", {"'=X'"}),
        ("x: int = y", set()),
        ("min(a, b)", {"max(a, b)", "pass"}),
        ("f(a, b, c)", {"f(b, a, c)", "pass"}),
        ("zip(a, b, strict=True)", {"pass"}),
        ("x = [i for i in y if i]", {"for i in y"}),
        ("x = a if b else c", {"a if True else c", "a if False else c"}),
        ("if a:\n b", {"if True:", "if False:"}),
        ("while a:\n break", {"continue"}),
        ("x.y = z", {"pass"}),
        ("x += y", {"pass"}),
        ("raise x", {"pass"}),
        ("def f():\n 'What it does.'\n return x", {"return None"}),
        ("__all__ = ['name']", set()),
        ("import x", set()),
        ("@f(1)\ndef g(): ...", set()),
        ("class C(Struct, frozen=True): ...", set()),
    ],
)
def test_each_kind_of_fault_is_made(source: str, faults: set[str]) -> None:
    assert {mutant.after for mutant in mutants(source)} == faults


def test_a_mutant_is_the_module_with_one_fault() -> None:
    source = "def f(x):\n    if x < 3:\n        return [x, 3]\n    return x"
    (fault,) = [m for m in mutants(source) if m.after == "x <= 3"]
    assert (fault.line, fault.name) == (2, "f: x < 3 -> x <= 3")
    assert ast.unparse(fault.tree()) == source.replace("<", "<=")
    assert source == ast.unparse(ast.parse(source))


def test_every_equivalent_fault_is_one_that_is_made() -> None:
    for module, name in all_equivalents():
        made = {mutant.name for mutant in mutants((rooms.PACKAGE / module).read_text())}
        assert name in made, f"{module}: take this line out, the code has changed: {name}"


def test_a_line_at_import_is_tested_by_all_that_run_the_module() -> None:
    module = rooms.PACKAGE / "names.py"
    lines = module.read_text().splitlines()
    inside = next(n for n, line in enumerate(lines, 1) if line.startswith("    return "))
    reach = runs.Reach(
        seconds={"slow": 2.0, "fast": 1.0},
        lines={"deviceplugin/names.py": {"1": ["slow", ""], str(inside): ["fast"]}},
    )
    assert reach.tests(module, 1) == ["fast", "slow"]
    assert reach.tests(module, inside) == ["fast"]
    assert reach.tests(rooms.PACKAGE / "edits.py", 1) == []


def test_modules_are_found_by_pattern_and_one_that_is_nowhere_is_an_error() -> None:
    assert rooms.PACKAGE / "resources" / "ledger.py" in rooms.modules(["resources/*.py"])
    assert len(rooms.modules([*rooms.CORE, *rooms.VENDORS])) > 40
    with pytest.raises(ValueError, match="nowhere"):
        rooms.modules(["nowhere/*.py"])


TRY = """
import ast, sys, time
from tests.mutation import rooms, runs
from tests.mutation.mutants import Mutant
module = rooms.PACKAGE / "schema.py"
tree = ast.parse(module.read_text().replace("10**3", sys.argv[1]))
fault = Mutant(1, "", "", "", lambda: tree)
child = runs.start_tests(module, fault, ["tests/config/test_plain_values.py"])
print(runs.wait([(child, time.monotonic() + 600)]) == (child, True))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "passed"), [("10**3 - 1", "False"), ("10**3 + 0", "True")])
def test_tests_in_a_child_see_the_fault(changed: str, passed: str) -> None:
    source = (rooms.PACKAGE / "schema.py").read_text()
    assert source.count("10**3") == 1
    command = [sys.executable, "-c", TRY, changed]
    done = subprocess.run(command, cwd=rooms.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{passed}\n"
    assert (rooms.PACKAGE / "schema.py").read_text() == source


COPIES = """
import ast
from tests.mutation import rooms, runs
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.tries import Tries
module = rooms.PACKAGE / "schema.py"
source = module.read_text()
fault = next(m for m in mutants(source) if m.name.startswith("parse_bytes: return"))
none = Mutant(fault.line, "parse_bytes", "nothing", "nothing", lambda: ast.parse(source))
at_import = next(m for m in mutants(source) if m.before == "10 ** 3")
tests = ("tests/config/test_plain_values.py",)
tries = Tries(tests, runs.reach(tests), 2)
print(tries.reach.is_only_in_tests(module, fault.line))
print(tries.reach.is_only_in_tests(module, at_import.line))
for _, left in tries.survivors({module: [fault, at_import, none]}):
    print([found.before for found in left])
"""


@pytest.mark.slow
def test_only_a_fault_that_changes_nothing_survives_in_copies_and_from_the_start() -> None:
    command = [sys.executable, "-c", COPIES]
    done = subprocess.run(command, cwd=rooms.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "False", "['nothing']"]
