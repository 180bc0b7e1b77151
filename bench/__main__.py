"""`python -m bench`: every measurement, as a table."""

import asyncio
import platform
import sys

import grpc
import psutil

from bench import daemon
from deviceplugin.runtime.tables import table


def main() -> None:
    """Print the machine and the figures."""
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total >> 30
    versions = f"Python {platform.python_version()}, grpcio {grpc.__version__}"
    sys.stdout.write(f"{cores} cores, {memory} GiB, {platform.machine()}, {versions}\n\n")
    rows = asyncio.run(daemon.measure())
    sys.stdout.write(table(("WHAT", "MEASURED", "TARGET"), rows) + "\n")


if __name__ == "__main__":
    main()
