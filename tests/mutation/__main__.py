"""`make mutation`: puts faults into the code and reports how many the tests notice."""

import argparse
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from tests.mutation import rooms, runs
from tests.mutation.equivalent import equivalents
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.tries import Tries


class Score(Struct, frozen=True):
    """What became of the faults of a module."""

    module: str
    tried: int
    survivors: tuple[str, ...]

    @property
    def text(self) -> str:
        """A row of the table."""
        killed = self.tried - len(self.survivors)
        share = f"{100 * killed / self.tried:.0f}" if self.tried else "-"
        return f"{self.module:<40} {self.tried:>6} {killed:>7} {share:>8}"


def main() -> int:
    """0 where at least `--at-least` percent of the faults are noticed."""
    asked = _arguments()
    runs.preload()
    patterns = asked.modules or [*rooms.CORE, *(() if asked.core else rooms.VENDORS)]
    print(
        f"seed {asked.seed}\n{'module':<40} {'faults':>6} {'noticed':>7} {'percent':>8}", flush=True
    )
    scores = []
    for score in _scores(rooms.modules(patterns), asked):
        scores.append(score)
        print(score.text, *(f"\n  {survivor}" for survivor in score.survivors), sep="", flush=True)
    tried = sum(score.tried for score in scores)
    left = tuple(survivor for score in scores for survivor in score.survivors)
    print(Score("all", tried, left).text)
    return 0 if (tried - len(left)) * 100 >= asked.at_least * tried else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="files below deviceplugin/, or patterns of them")
    parser.add_argument("--core", action="store_true", help="without the vendors")
    parser.add_argument("--count", type=int, default=10, help="faults of each module, 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--at-least", type=float, default=92, help="percent that must be noticed")
    return parser.parse_args()


def _scores(modules: Sequence[Path], asked: argparse.Namespace) -> Iterator[Score]:
    groups: dict[tuple[str, ...], dict[Path, list[Mutant]]] = {}
    for module in modules:
        groups.setdefault(tuple(rooms.tests_of(module)), {})[module] = _picked(module, asked)
    for folders, faults in groups.items():
        tries = Tries(folders, runs.reach(folders), asked.jobs)
        for module, survivors in tries.survivors(faults):
            names = tuple(f"{fault.line} {fault.name}" for fault in survivors)
            yield Score(_name(module), len(faults[module]), names)


def _name(module: Path) -> str:
    return str(module.relative_to(rooms.PACKAGE))


def _picked(module: Path, asked: argparse.Namespace) -> list[Mutant]:
    name = _name(module)
    known = equivalents(name)
    found = [mutant for mutant in mutants(module.read_text()) if mutant.name not in known]
    if asked.count and asked.count < len(found):
        found = random.Random(f"{asked.seed} {name}").sample(found, asked.count)
    return sorted(found, key=lambda mutant: (mutant.line, mutant.name))


if __name__ == "__main__":
    sys.exit(main())
