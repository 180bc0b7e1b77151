"""What the audit log adds to allocations: `python -m bench.audit`.

A thousand a second go through the allocator, in turns with the log and without; the request's way
through gRPC, which is the same for both, is measured by `bench.beside` (`Allocate`, p50).
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deviceplugin.audit.chain import Chain
from deviceplugin.audit.events import Moment, granted
from deviceplugin.audit.verify import verify_log
from deviceplugin.audit.writer import Counts, Writer
from deviceplugin.resources.allocation import Allocation
from deviceplugin.runtime.tables import table
from tests.resources.test_allocator import BOTH, Desk

RATE, SECONDS, ROUNDS = 1000, 3, 5


async def measure(writer: Writer | None) -> tuple[float, float]:
    """The median of a call, and the process's CPU time for each, in microseconds."""
    desk = Desk()
    if writer is not None:
        moment = Moment(time.time(), "c" * 64)

        def record(allocation: Allocation) -> None:
            writer.put(lambda: granted(moment, allocation))

        desk.allocator.listen("audit", record)
    spent = []
    cpu, started = time.process_time(), time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        began = time.perf_counter()
        await desk.allocator.allocate(BOTH, desk.encode)
        spent.append(time.perf_counter() - began)
    cpu = (time.process_time() - cpu) / len(spent)
    return statistics.median(spent) * 1e6, cpu * 1e6


async def compare(directory: Path) -> bool:
    """Both in turns; whether every record is there."""
    counts = Counts()
    writer = Writer(Chain(directory, "/deviceplugin/nodes/bench"), time.time, counts)
    writer.start()
    found = [(await measure(None), await measure(writer)) for _ in range(ROUNDS)]
    await asyncio.to_thread(writer.close)
    rows = []
    for place, name in enumerate(("median of a call", "CPU of a call, all threads")):
        off, on = (statistics.median(pair[i][place] for pair in found) for i in (0, 1))
        rows.append((name, f"{off:.1f} µs", f"{on:.1f} µs", f"{on - off:+.1f} µs"))
    sys.stdout.write(table(("WHAT", "OFF", "ON", "ADDED"), rows) + "\n")
    report = verify_log(directory)
    sys.stdout.write(f"{report.records} records, {counts.lost} lost\n")
    return not report.problems and report.records == RATE * SECONDS * ROUNDS


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as base:
        sys.exit(0 if asyncio.run(compare(Path(base) / "audit")) else 1)


if __name__ == "__main__":
    main()
