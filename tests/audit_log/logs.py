"""Audit logs for tests."""

from collections.abc import Sequence
from pathlib import Path

from deviceplugin.audit.chain import Chain
from deviceplugin.audit.record import Event, Record, read_line
from deviceplugin.audit.segments import read_lines, segments_of

DAY_S = 86400.0
NOON = 20_000 * DAY_S + DAY_S / 2  # of some day


def chain_in(directory: Path, *, segment_bytes: int = 1 << 20, spare_bytes: int = 0) -> Chain:
    return Chain(directory, "/deviceplugin/nodes/node-1", segment_bytes, spare_bytes)


def event(number: int, at: float = NOON) -> Event:
    data = {"ids": [f"GPU-{number}"], "devices": [f"GPU-{number}"]}
    return Event(kind="allocation.granted", at=at, subject="nvidia.com/gpu", data=data)


def written(directory: Path, count: int, **flags: int) -> Chain:
    """A log of so many records, closed."""
    chain = chain_in(directory, **flags)
    chain.open(NOON)
    for number in range(count):
        chain.append([event(number)])
    chain.sync()
    chain.close()
    return chain


def records(directory: Path) -> Sequence[Record]:
    lines = (line for one in segments_of(directory) for line in read_lines(one.path))
    return [record for line in lines if (record := read_line(line.rstrip(b"\n")))]


def kinds(directory: Path) -> Sequence[str]:
    return [record.kind for record in records(directory)]
