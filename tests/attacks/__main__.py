"""Every attack in full, and what the daemon did meanwhile: `make attacks`."""

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.attacker import ATTACKS
from tests.attacks.scene import Figures, Scene, quantile, scene_below
from tests.rig import rig_below

QUIET = 100
MAX_ALIVE_S, MAX_RATIO, MAX_MIB, MAX_RECOVERY_S = 1.0, 3.0, 100.0, 5.0
HEAD = ("attack", "alive p99", "Allocate p50", "p99", "quiet p50", "p99", "peak", "recovery")


@dataclass
class Outcome:
    """One attack."""

    attack: str
    quiet: Figures
    under: Figures
    recovery_s: float

    def row(self) -> tuple[str, ...]:
        """As the table shows it."""
        alive, peak = quantile(self.under.alive_s, 0.99), max(self.under.rss_mib)
        times = [
            figures.allocate(part) for figures in (self.under, self.quiet) for part in (0.5, 0.99)
        ]
        milliseconds = [f"{1000 * value:.1f} ms" for value in (alive, *times)]
        return (self.attack, *milliseconds, f"{peak:.0f} MiB", f"{self.recovery_s:.2f} s")

    def missed(self) -> list[str]:
        """The targets that it misses."""
        ratio = self.under.allocate(0.99) / self.quiet.allocate(0.99)
        found = {
            f"{len(self.under.failed)} calls failed": bool(self.under.failed),
            "liveness": quantile(self.under.alive_s, 0.99) > MAX_ALIVE_S,
            f"Allocate p99 is {ratio:.1f} x quiet": ratio > MAX_RATIO,
            "memory": max(self.under.rss_mib) >= MAX_MIB,
            "recovery": self.recovery_s > MAX_RECOVERY_S,
        }
        return [text for text, is_so in found.items() if is_so]


async def attacked(attack: str, seconds: float) -> Outcome:
    """That attack on a daemon of its own."""
    with tempfile.TemporaryDirectory(prefix="d") as directory:
        async with rig_below(Path(directory)) as rig, scene_below(rig) as scene:
            return await _outcome(scene, attack, seconds)


async def _outcome(scene: Scene, attack: str, seconds: float) -> Outcome:
    quiet = await scene.measure(lambda: False, QUIET)
    under = await scene.under(attack, seconds)
    return Outcome(attack, quiet, under, await scene.recovers(quiet))


def line(cells: tuple[str, ...]) -> str:
    """A line of the table."""
    return f"{cells[0]:22}" + "".join(f"{cell:>14}" for cell in cells[1:])


def main() -> None:
    """The table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack")
    arguments = parser.parse_args()
    print(line(HEAD), flush=True)
    missed = False
    for attack in arguments.attacks or ATTACKS:
        outcome = asyncio.run(attacked(attack, arguments.seconds))
        misses = outcome.missed()
        missed |= bool(misses)
        print(line(outcome.row()), f"  misses: {', '.join(misses)}" if misses else "", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
