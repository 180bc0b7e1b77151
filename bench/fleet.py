"""`fleet report` against a real Prometheus with a made-up history, in time and memory.

Usage: python -m bench.fleet [--gpus 200] [--days 30]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fleet.prometheus import prometheus

SCRIPT = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10, file=sys.stderr)
"""
# The largest of promtool, Prometheus and the command would be told without a process between.
MEASURED = (sys.executable, "-c", SCRIPT)
COMMAND = (sys.executable, "-m", "deviceplugin", "fleet", "report", "--format", "html")


def main() -> None:
    """Print what one report took, the first and the second time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=200)
    parser.add_argument("--days", type=int, default=30)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        prometheus(Path(directory), asked.gpus, asked.days) as url,
    ):
        for number in (1, 2):
            began = time.perf_counter()
            done = subprocess.run(
                [*MEASURED, *COMMAND, "--store", url, "--days", str(asked.days)],
                check=True,
                capture_output=True,
            )
            took = time.perf_counter() - began
            sys.stdout.write(f"report {number}: {took:.1f} s, {int(done.stderr)} MiB\n")


if __name__ == "__main__":
    main()
