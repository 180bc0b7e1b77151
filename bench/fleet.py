"""`fleet` against a real Prometheus with a made-up history: time, memory, and what each query takes
of the store's limits.

Usage: python -m bench.fleet [--gpus 200] [--days 30] [--step 300]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from deviceplugin.cost.series import QUERIES as OF_PAST
from deviceplugin.fleet.questions import QUERIES as OF_PLANS
from tests.fleet.prometheus import prometheus

HOUR_S = 3600
COSTS = str(Path(__file__).parents[1] / "examples/fleet/costs.yaml")
SCRIPT = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss >> 10, used.ru_utime + used.ru_stime, file=sys.stderr)
"""
# The largest of promtool, Prometheus and the command would be told without a process between.
MEASURED = (sys.executable, "-c", SCRIPT, sys.executable, "-m", "deviceplugin", "fleet")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "report": ("report", "--format", "html"),
    "report again": ("report", "--format", "html"),
    "cost": ("cost", "--costs", COSTS),
    "advice": ("advice", "--costs", COSTS),
    "report with costs": ("report", "--format", "html", "--costs", COSTS),
}


def measured(url: str, days: int, words: tuple[str, ...]) -> str:
    """What a command took."""
    began = time.perf_counter()
    command = [*MEASURED, *words, "--store", url, "--days", str(days)]
    done = subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - began
    mib, seconds = done.stderr.split()[-2:]
    return f"{took:.1f} s, {float(seconds):.1f} s of a core, {int(mib)} MiB"


def peaks(url: str, days: int) -> Iterator[tuple[int, int, str]]:
    """By query: the samples that the store held at once, and those that it read."""
    end = int(time.time()) // HOUR_S * HOUR_S
    span = {"start": end - (days * 24 - 1) * HOUR_S, "end": end, "step": HOUR_S, "stats": "all"}
    for name, query in {**OF_PLANS, **OF_PAST}.items():
        with urlopen(f"{url}/api/v1/query_range?{urlencode({'query': query} | span)}") as answer:  # noqa: S310  # its own server
            samples = json.loads(answer.read())["data"]["stats"]["samples"]
        yield samples["peakSamples"], samples["totalQueryableSamples"], name


def main() -> None:
    """Print the largest queries, and what the commands took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=200)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--step", type=int, default=300)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        prometheus(Path(directory), asked.gpus, asked.days, asked.step) as url,
    ):
        points = asked.days * 24
        sys.stdout.write(f"{points} points a series; samples held at once, and read, by query:\n")
        for held, read, name in sorted(peaks(url, asked.days), reverse=True)[:5]:
            sys.stdout.write(f"{held:>12,} {read:>12,} {name}\n")
        for name, words in COMMANDS.items():
            sys.stdout.write(f"{name}: {measured(url, asked.days, words)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
