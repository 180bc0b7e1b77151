"""Tests that are collected once, by a process that is copied for each fault.

The copy gets the code of the faulty module in place of the code of its functions: nothing is
imported or collected again, which is most of the time of a run. What runs at import cannot be
tried so.
"""

import gc
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.runs import OPTIONS, Quickly

Start = Callable[[Path, Mutant, Sequence[str]], int]


def collected(
    tests: Sequence[str], seconds: Mapping[str, float], work: Callable[[Start], None]
) -> int:
    """Collect the tests and do the work, which is given what starts some of them in a copy.

    `seconds` is what each takes without a fault.
    """
    return int(pytest.main([*OPTIONS, *tests], plugins=[Quickly(seconds), _Session(work)]))


class _Session:
    """Takes the place of the loop that runs all tests."""

    def __init__(self, work: Callable[[Start], None]) -> None:
        self._work = work

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}

        def start(module: Path, mutant: Mutant, tests: Sequence[str]) -> int:
            child = os.fork()
            if child == 0:
                _try(session, (module, mutant), [items[test] for test in tests])
            return child

        self._work(start)
        return True


def _try(session: pytest.Session, fault: tuple[Path, Mutant], items: Sequence[pytest.Item]) -> None:
    """In the copy: run the tests on the faulty code until one fails, and end; status 1 if so."""
    status = 1
    try:
        os.setsid()
        replace_code(*fault)
        status = _run(session, items)
    finally:
        os._exit(status)


def _run(session: pytest.Session, items: Sequence[pytest.Item]) -> int:
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def replace_code(module: Path, mutant: Mutant) -> None:
    """Give every function of the module the code that it has with the fault."""
    codes = _by_place(compile(mutant.tree(), str(module), "exec"))
    for function in _functions(module):
        (function.__code__,) = codes[_place(function.__code__)]


def is_replaceable(module: Path, mutant: Mutant) -> bool:
    """Whether it can: each has one place, and names of an outer function stay what they are."""
    codes = _by_place(compile(mutant.tree(), str(module), "exec"))
    return all(
        [code.co_freevars for code in codes[_place(function.__code__)]]
        == [function.__code__.co_freevars]
        for function in _functions(module)
    )


def _functions(module: Path) -> Iterator[FunctionType]:
    for value in gc.get_objects():
        if isinstance(value, FunctionType) and value.__code__.co_filename == str(module):
            yield value


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _by_place(code: CodeType) -> dict[tuple[str, int], list[CodeType]]:
    """All code objects of a module."""
    found: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
    found[_place(code)].append(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for place, codes in _by_place(constant).items():
                found[place] += codes
    return found
