"""Runs of pytest in child processes, which see a module with a fault in place of the module."""

import ast
import contextlib
import importlib.abc
import importlib.machinery
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType
from typing import Any

import coverage
import pytest
from hypothesis import Phase, settings
from msgspec import Struct, field

from tests.mutation.mutants import Mutant
from tests.mutation.rooms import PACKAGE, ROOT

# Loaded once: a child has them from the start. None of the package, which each child imports anew.
PRELOADED = ("grpc.aio", "msgspec", "structlog", "yaml", "pytest_asyncio", "pynvml", "jsonschema")
OPTIONS = (
    "-x",
    "-q",
    "-m",
    "not slow",
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
)
REACH_S = 1800.0  # all tests of a few folders, on a busy machine
LIMIT_S = 30.0  # of a test that takes no time, on a busy machine
SLOWER = 10  # tests may take so many times what they took without a fault
NOTHING: Mapping[str, float] = MappingProxyType({})
_PASSED, _NO_TESTS = 0, 5


def limit_s(seconds: float) -> float:
    """How long something may take that takes so long without a fault."""
    return LIMIT_S + SLOWER * seconds


class Reach(Struct, frozen=True):
    """Which tests run each line, and what each test takes in seconds."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def tests(self, module: Path, line: int) -> list[str]:
        """The tests that run the line, the fastest first: all of the module's where the line runs
        at import, whichever test happened to come first then."""
        lines = self.lines.get(str(module.relative_to(ROOT)), {})
        found = {test for test in lines.get(str(line), ()) if test}
        if not found or is_at_import(module, line):
            found = {test for tests in lines.values() for test in tests if test}
        return sorted(found, key=lambda test: (self.seconds[test], test))

    def is_only_in_tests(self, module: Path, line: int) -> bool:
        """Whether no module runs the line while it is imported."""
        lines = self.lines.get(str(module.relative_to(ROOT)), {})
        return "" not in lines.get(str(line), [""]) and not is_at_import(module, line)


def is_at_import(module: Path, line: int) -> bool:
    """Outside of every function."""
    return not any(
        node.body[0].lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(_parsed(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and isinstance(node.body, list)
    )


@cache
def _parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def preload() -> None:
    """Import what every child needs."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            __import__(name)


class Quickly:
    """Failures are not made smaller: nobody reads them. A test that hangs ends the process:
    `seconds` is what each takes without a fault."""

    def __init__(self, seconds: Mapping[str, float] = NOTHING) -> None:
        self._seconds = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        settings.register_profile(
            "mutation", settings.default, phases=(Phase.explicit, Phase.generate)
        )
        settings.load_profile("mutation")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.alarm(math.ceil(limit_s(self._seconds.get(nodeid, 0.0))))


class _Contexts:
    """Notes which test runs."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._measured.switch_context(item.nodeid)
        began_s = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began_s
            self._measured.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def reach(tests: Sequence[str]) -> Reach:
    """Run the tests once, on the code as it is. RuntimeError: one of them fails."""
    with tempfile.NamedTemporaryFile(prefix="reach-") as file:
        path = Path(file.name)
        wait([(start(lambda: _measure(tests, path)), time.monotonic() + REACH_S)])
        answer = json.loads(path.read_text() or '{"failed": ["the run itself"]}')
    if answer["failed"]:
        raise RuntimeError(f"without any fault these fail: {', '.join(answer['failed'])}")
    return Reach(answer["seconds"], answer["lines"])


def _measure(tests: Sequence[str], path: Path) -> int:
    measured = coverage.Coverage(data_file=None, source=[str(PACKAGE)], config_file=False)
    contexts = _Contexts(measured)
    measured.start()
    options = [option for option in OPTIONS if option != "-x"]
    code = pytest.main([*options, *tests], plugins=[contexts])
    measured.stop()
    data = measured.get_data()
    lines = {
        str(Path(name).relative_to(ROOT)): data.contexts_by_lineno(name)
        for name in data.measured_files()
    }
    answer = {"failed": contexts.failed, "seconds": contexts.seconds, "lines": lines}
    path.write_text(json.dumps(answer))
    return int(code)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module with its fault."""

    def __init__(self, module: Path, code: CodeType) -> None:
        self._name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        self._path, self._code = str(module), code

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:  # as is
        if name != self._name:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=self._path)
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102  # the module itself, but for its fault


def start_tests(
    module: Path, mutant: Mutant, tests: Sequence[str], seconds: Mapping[str, float] = NOTHING
) -> int:
    """A process that runs the tests, until one fails, on the module with the fault."""
    return start(lambda: _run(module, mutant, tests, seconds))


def _run(module: Path, mutant: Mutant, tests: Sequence[str], seconds: Mapping[str, float]) -> int:
    sys.meta_path.insert(0, _Finder(module, compile(mutant.tree(), str(module), "exec")))
    return int(pytest.main([*OPTIONS, *tests], plugins=[Quickly(seconds)]))


def start(work: Callable[[], int]) -> int:
    """A child in a process group of its own that says nothing; its status is the work's answer."""
    child = os.fork()
    if child:
        return child
    status = 3
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        status = work()
    finally:
        os._exit(status)


def wait(children: Sequence[tuple[int, float]]) -> tuple[int, bool]:
    """The first child to end, and whether its tests passed; one that is late is ended, and failed.

    `children` are their ids, each with its limit in monotonic seconds.
    """
    while True:
        for child, limit_s in children:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)  # what the tests left
                return child, os.waitstatus_to_exitcode(status) in (_PASSED, _NO_TESTS)
            if time.monotonic() > limit_s:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
