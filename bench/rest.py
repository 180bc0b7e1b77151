"""What a daemon costs that nobody asks anything: `python -m bench.rest`.

Start, memory, processor time and wakes of an idle node, the way of a fault to the list, and a new
kubelet. Everything is measured of this daemon and, at the same time or in turns, of other checkouts
(`--tree before=../old`) and other plugins (`--peer nvidia=/path/to/it`).
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import psutil
from msgspec import Struct

from bench.beside import NODES
from bench.contestants import Started, add_contestants, contestants, serving
from bench.share import busy_node
from deviceplugin.runtime.tables import table

SETTLE_S = 12.0  # gRPC's threads come to rest
Rows = list[Sequence[str]]


class Cost(Struct):
    """Processor seconds and wakes of a process and its children since their start."""

    busy_s: float
    wakes: int


def _cost(pid: int) -> Cost:
    """From the scheduler's own books: the clock of times() ticks in 10 ms."""
    tasks = [task for process in _processes(pid) for task in _tasks(process.pid)]
    busy_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    states = [(task / "status").read_text() for task in tasks]
    wakes = sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in states)
    return Cost(busy_ns / 1e9, wakes)


def _processes(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


async def measure(arguments: argparse.Namespace) -> Rows:
    """The rows of every node."""
    rows: Rows = []
    for name in arguments.nodes:
        node = NODES[name]()
        async with serving(node, contestants(arguments.tree, arguments.peer)) as started:
            idle = await _idle(started, arguments.seconds)
            ours = [one for one in started if one.contestant.binary is None]
            pids = [one.pid for one in started]
            share = busy_node(arguments.share, pids) if arguments.share else nullcontext()
            with share:
                faults = await _in_turns(ours, arguments.rounds, Started.fault, 0.2)
                again = await _in_turns(started, arguments.rounds, _again, 0.5)
        starts = await _starts(name, arguments)
        for what, found in (("start", starts), ("fault to list", faults), ("listed again", again)):
            rows += [(node.name, what, who, *_spread(spent)) for who, spent in found.items()]
        rows += [(node.name, *row) for row in idle]
    return rows


async def _idle(started: Sequence[Started], seconds: float) -> Rows:
    await asyncio.sleep(SETTLE_S)
    before = [_cost(one.pid) for one in started]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    spent_s = time.monotonic() - began
    rows: Rows = []
    for one, then in zip(started, before, strict=True):
        now, who = _cost(one.pid), one.contestant.name
        memory = [process.memory_full_info() for process in _processes(one.pid)]
        rss, pss = (sum(getattr(m, kind) for m in memory) / (1 << 20) for kind in ("rss", "pss"))
        busy, wakes = (now.busy_s - then.busy_s) / spent_s, (now.wakes - then.wakes) / spent_s
        rows.append(("idle", who, f"{100 * busy:.3f} %", f"{wakes:.1f} wakes/s"))
        rows.append(("memory", who, f"{rss:.1f} MiB", f"{pss:.1f} MiB proportional"))
    return rows


async def _again(started: Started) -> float:
    """The seconds from a new kubelet's socket to the last list."""
    kubelet = started.bench.kubelet
    await kubelet.stop()
    await asyncio.sleep(0.2)
    began = await kubelet.start()
    return await started.listed() - began


async def _starts(name: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The seconds from the start of a process to its last complete list."""
    who = contestants(arguments.tree, arguments.peer)
    spent: dict[str, list[float]] = {one.name: [] for one in who}
    for _ in range(arguments.rounds):
        for one in who:
            async with serving(NODES[name](), [one]) as started:
                last = max(stream.at_s for stream in started[0].bench.kubelet.streams.values())
                spent[one.name].append(last - started[0].began_s)
    return spent


async def _in_turns(
    started: Sequence[Started],
    rounds: int,
    measured: Callable[[Started], Awaitable[float]],
    pause_s: float,
) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {one.contestant.name: [] for one in started}
    for _ in range(rounds):
        for one in started:
            spent[one.contestant.name].append(await measured(one))
            await asyncio.sleep(pause_s)  # out of the burst of the former
    return spent


def _spread(spent: Sequence[float]) -> tuple[str, str]:
    return f"{1000 * statistics.median(spent):.1f} ms", f"worst {1000 * max(spent):.1f} ms"


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", nargs="+", default=["8", "three"], choices=NODES, metavar="NODE")
    add_contestants(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="of idleness")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--share", type=int, metavar="MILLICORES", help="beside a busy neighbour")
    rows = asyncio.run(measure(parser.parse_args()))
    head = ("NODE", "WHAT", "WHO", "MEDIAN", "")
    sys.stdout.write(table(head, [tuple(map(str, row)) for row in rows]) + "\n")


if __name__ == "__main__":
    main()
