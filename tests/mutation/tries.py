"""Tries the faults of modules: in copies of one process where possible, or from the start."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from tests.mutation import runs, warm
from tests.mutation.mutants import Mutant

Faults = Mapping[Path, Sequence[Mutant]]


class Tries(Struct, frozen=True):
    """Which tests notice a fault of the modules that these folders of tests are about."""

    folders: tuple[str, ...]
    reach: runs.Reach
    jobs: int

    def survivors(self, faults: Faults) -> Iterator[tuple[Path, list[Mutant]]]:
        """Module by module what no test notices."""
        for module, (hot, left) in self._in_copies(faults):
            cold = [fault for n, fault in enumerate(faults[module]) if n not in hot]
            found = [faults[module][n] for n in left]
            start = partial(runs.start_tests, seconds=self.reach.seconds)
            found += self._left(start, module, cold)
            yield module, sorted(found, key=lambda fault: (fault.line, fault.name))

    def _in_copies(self, faults: Faults) -> Iterator[tuple[Path, tuple[list[int], list[int]]]]:
        """The places of those that were tried, and of those among them that survived."""
        reading, writing = os.pipe()

        def work(start: warm.Start) -> None:
            for module in faults:
                answer = json.dumps(self._tried(start, module, faults[module]))
                os.write(writing, f"{answer}\n".encode())

        child = runs.start(lambda: warm.collected(self.folders, self.reach.seconds, work))
        os.close(writing)
        try:
            with os.fdopen(reading) as answers:
                for module in faults:
                    # None where the process has failed: then all are tried from the start.
                    hot, left = json.loads(answers.readline() or "[[], []]")
                    yield module, (hot, left)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _tried(
        self, start: warm.Start, module: Path, faults: Sequence[Mutant]
    ) -> tuple[list[int], list[int]]:
        hot = [
            n
            for n, fault in enumerate(faults)
            if self.reach.is_only_in_tests(module, fault.line)
            and warm.is_replaceable(module, fault)
        ]
        left = self._left(start, module, [faults[n] for n in hot])
        return hot, [n for n in hot if faults[n] in left]

    def _left(self, start: warm.Start, module: Path, faults: Sequence[Mutant]) -> list[Mutant]:
        waiting, left = list(faults), list[Mutant]()
        running: dict[int, tuple[Mutant, float]] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                fault = waiting.pop(0)
                if tests := self.reach.tests(module, fault.line):
                    child = start(module, fault, tests)
                    limit_s = runs.limit_s(sum(self.reach.seconds[test] for test in tests))
                    running[child] = (fault, time.monotonic() + limit_s)
                else:
                    left.append(fault)
            if running:
                ended, passed = runs.wait([(child, limit) for child, (_, limit) in running.items()])
                fault, _ = running.pop(ended)
                left += [fault] if passed else []
        return left
