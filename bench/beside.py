"""Calls timed in turns, so that ratios hold on a busy machine: `python -m bench.beside`.

Each node is served by this daemon, by other checkouts (`--tree before=../old`) and by other plugins
(`--peer nvidia=/path/to/it`) at the same time, each with a kubelet of its own; a round asks one
after the other, and a bare grpc.aio server with the same answer between them.
"""

import argparse
import asyncio
import statistics
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from msgspec import Struct

from bench.calls import Timed, allocation, echo, preference, timed
from bench.contestants import Started, add_contestants, contestants, serving
from bench.nodes import Node, large_in_the_middle, node_of, vendors_of
from bench.share import busy_node
from deviceplugin.runtime.tables import table

ECHO = "a bare grpc.aio server"
NODES: Mapping[str, Callable[[], Node]] = {
    "8": partial(vendors_of, 1),
    "64": partial(node_of, 64),
    "3x8": partial(vendors_of, 3),
    "three": large_in_the_middle,
    "60000": partial(node_of, 60_000),
}
ALLOCATE, PREFER = "Allocate", "GetPreferredAllocation"

Requests = Callable[[int], bytes]


class Case(Struct, frozen=True, kw_only=True):
    """What is asked: `requests` makes the n-th request to each of the sockets at once."""

    name: str
    method: str
    calls: int
    resources: Sequence[str]
    requests: Mapping[str, Requests]


class Figures(Struct):
    """The seconds of all calls, and of each round its median and 99th percentile."""

    spent: list[float] = []
    rounds: list[tuple[float, float]] = []

    def add(self, times: Iterable[Timed]) -> None:
        """Take one round's calls."""
        spent = sorted(s for one in times for s in one.spent)
        self.spent += spent
        whole = Timed(spent=spent, answer=b"", request_bytes=0)
        self.rounds.append((whole.at(0.5), whole.at(0.99)))

    def beside(self, bare: "Figures") -> Sequence[str]:
        """Milliseconds, and the median ratio of the rounds."""
        whole = Timed(spent=sorted(self.spent), answer=b"", request_bytes=0)
        texts = []
        for at, quantile in ((0, 0.5), (1, 0.99)):
            ratios = [o[at] / b[at] for o, b in zip(self.rounds, bare.rounds, strict=True)]
            ratio = statistics.median(ratios)
            texts.append(f"{whole.at(quantile):.2f} ms, {ratio:.2f} x")
        return texts


async def measure(arguments: argparse.Namespace) -> list[Sequence[str]]:
    """The rows of every node."""
    rows: list[Sequence[str]] = []
    for name in arguments.nodes:
        node = NODES[name]()
        async with serving(node, contestants(arguments.tree, arguments.peer)) as started:
            await _change(started)
            share = (
                busy_node(arguments.share, [s.pid for s in started]) if arguments.share else None
            )
            with share or nullcontext() as put:
                for case in _cases(started[0], arguments.calls):
                    ask = partial(_in_turns, case, started, arguments.rounds, put)
                    rows += [(node.name, case.name, *row) for row in await asyncio.to_thread(ask)]
    return rows


async def _change(started: Sequence[Started]) -> None:
    """One fault, which passes: what a change leaves behind is measured too."""
    for one in started:
        if one.contestant.binary is None:
            await one.fault()
            await one.listed()


def _cases(started: Started, calls: int) -> Iterable[Case]:
    streams = started.bench.kubelet.streams
    ids = {name: list(stream.devices) for name, stream in streams.items()}
    largest = max(ids, key=lambda name: len(ids[name]))
    few = max(20, min(calls, 600_000 // len(ids[largest])))
    one = {name: partial(_nth, its) for name, its in ids.items()}
    yield Case(name="Allocate", method=ALLOCATE, calls=calls, resources=[largest], requests=one)
    if len(ids) > 1:
        every = sorted(ids)
        name = f"Allocate, {len(ids)} resources at once"
        yield Case(name=name, method=ALLOCATE, calls=calls, resources=every, requests=one)
    asked = {name: partial(_same, preference(its, [], 8)) for name, its in ids.items()}
    name = f"preferred, 8 of {len(ids[largest]):,}"
    yield Case(name=name, method=PREFER, calls=few, resources=[largest], requests=asked)


def _nth(ids: Sequence[str], number: int) -> bytes:
    return allocation([ids[number % len(ids)]])


def _same(request: bytes, _: int) -> bytes:
    return request


def _in_turns(
    case: Case, started: Sequence[Started], rounds: int, put: Callable[[int], None] | None
) -> Sequence[Sequence[str]]:
    """One row for each contestant, and the bare server's."""
    figures = {one.contestant.name: Figures() for one in started} | {ECHO: Figures()}
    root = started[0].root
    sockets = {name: root / f"echo{n}.sock" for n, name in enumerate(case.resources)}
    answer = _at_once(case, _sockets(case, started[0]), 1)[0].answer
    with echo({case.method: answer}, *sockets.values()) as pid:
        if put is not None:
            put(pid)
        for _ in range(rounds):
            for one in started:
                times = _at_once(case, _sockets(case, one), case.calls)
                figures[one.contestant.name].add(times)
            figures[ECHO].add(_at_once(case, sockets, case.calls))
    bare = figures[ECHO]
    return [(name, *figure.beside(bare)) for name, figure in figures.items()]


def _sockets(case: Case, started: Started) -> Mapping[str, Path]:
    """Where a contestant serves the resources; another plugin may name its only one otherwise."""
    streams = started.bench.kubelet.streams
    known = {name: streams[name].path for name in case.resources if name in streams}
    return known or {case.resources[0]: next(iter(streams.values())).path}


def _at_once(case: Case, sockets: Mapping[str, Path], calls: int) -> list[Timed]:
    """A client for each socket, all at the same time."""
    times: list[Timed] = []

    def ask(name: str, socket: Path) -> None:
        times.append(timed(socket, case.method, case.requests[name], calls))

    threads = [threading.Thread(target=ask, args=item) for item in sockets.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.beside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", nargs="+", default=[*NODES], choices=NODES, metavar="NODE")
    add_contestants(parser)
    parser.add_argument("--calls", type=int, default=1000, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--share", type=int, metavar="MILLICORES", help="beside a busy neighbour")
    rows = asyncio.run(measure(parser.parse_args()))
    head = ("NODE", "WHAT", "WHO", "P50", "P99")
    sys.stdout.write(table(head, [tuple(map(str, row)) for row in rows]) + "\n")


if __name__ == "__main__":
    main()
