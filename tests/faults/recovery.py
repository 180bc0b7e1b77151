"""How long the node took to be right again: recorded by each test, told at the end of the run."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

Recovering = Callable[[str], AbstractContextManager[None]]
_KEY = "recovery_s"


@pytest.fixture
def recovering(record_property: Callable[[str, object], None]) -> Recovering:
    """Entered where the fault `name` ends, left where the node is right again."""

    @contextmanager
    def measure(name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        record_property(_KEY, (name, round(time.monotonic() - started, 3)))

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of recovery times, slowest first."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for key, value in report.user_properties if report.when == "call" else ():
                if key == _KEY:
                    found[value[0]].append(value[1])
    if not found:
        return
    terminalreporter.section("recovery after faults, seconds")
    terminalreporter.write_line(f"{'fault':62} {'times':>5} {'median':>8} {'longest':>8}")
    for name, times in sorted(found.items(), key=lambda item: -statistics.median(item[1])):
        row = f"{name:62} {len(times):5} {statistics.median(times):8.2f} {max(times):8.2f}"
        terminalreporter.write_line(row)
