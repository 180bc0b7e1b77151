"""Runs as a node's daemon gives them at `/runs`, and how whoever learns reads them; pure."""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.files.text import one_line
from deviceplugin.learning.runs import Group, Run

VERSION = 1
MAX_RUNS = 5000  # of a node: 166 a day for 30 days
MOST = 200_000  # of all nodes
_LONGEST_S = 400 * 86_400.0
_LONGEST_NAME = 253  # of Kubernetes, for names of objects
_MOST_MIB = float(1 << 40)


class NodeRunsError(ValueError):
    """What is no such document, or one of another version."""


class Measured(Struct, frozen=True, kw_only=True):
    """A run with the mean of its utilisation, which a node knows and no model asks for."""

    run: Run
    mean_ratio: float | None = None


class _Row(Struct, frozen=True, array_like=True):
    """A number in `groups`, then the run."""

    group: int
    start: float
    seconds: float
    peak_mib: float | None
    mean_ratio: float | None
    busy_ratio: float | None


class _Document(Struct, frozen=True, kw_only=True):
    version: int
    node: str
    at: float
    groups: list[tuple[str, str, str]]
    runs: list[_Row]


def encode(node: str, at: float, runs: Iterable[Measured]) -> str:
    """The document, a line for each run: names once, since there are thousands of runs."""
    numbers: dict[Group, int] = {}
    rows = []
    for one in runs:
        run = one.run
        rows.append(
            _Row(
                numbers.setdefault(run.group, len(numbers)),
                round(run.start, 1),
                round(run.seconds, 1),
                _rounded(run.peak_mib, 1),
                _rounded(one.mean_ratio, 3),
                _rounded(run.busy_ratio, 3),
            )
        )
    head = {"version": VERSION, "node": node, "at": round(at, 1), "groups": list(numbers)}
    text = msgspec.json.encode(head).decode()
    lines = ",\n".join(msgspec.json.encode(row).decode() for row in rows)
    return f'{text[:-1]},"runs":[\n{lines}\n]}}\n'


def decode(content: bytes) -> tuple[str, list[Run]]:
    """The node and its runs; raises NodeRunsError."""
    try:
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NodeRunsError(one_line(str(error))) from error
    if document.version != VERSION:
        raise NodeRunsError(f"version {document.version}, {VERSION} is known here")
    return document.node, list(_runs(document))


def merged(
    given: Mapping[str, Sequence[Run]],
    owners: Mapping[tuple[str, str], str],
    watched: Iterable[Run],
) -> list[Run]:
    """The runs that nodes gave, with those that were watched on others, the latest MOST of all.

    `owners` are those of pods that were seen, by namespace and the owner's name by the pod's name.
    """
    runs = [
        replace(run, owner=owner) if (owner := owners.get((run.namespace, run.owner))) else run
        for found in given.values()
        for run in found
    ]
    return heapq.nlargest(MOST, [*runs, *watched], key=lambda run: run.end)


def _runs(document: _Document) -> Iterator[Run]:
    if any(len(name) > _LONGEST_NAME for group in document.groups for name in group):
        raise NodeRunsError(f"a name of more than {_LONGEST_NAME} characters")
    for row in document.runs[:MAX_RUNS]:
        if not 0 <= row.group < len(document.groups) or not _is_possible(row):
            raise NodeRunsError("a run that cannot be")
        namespace, owner, container = document.groups[row.group]
        yield Run(
            namespace=namespace,
            owner=owner,
            container=container,
            start=row.start,
            seconds=row.seconds,
            peak_mib=row.peak_mib,
            busy_ratio=row.busy_ratio,
        )


def _is_possible(row: _Row) -> bool:
    numbers = (row.start, row.seconds, row.peak_mib or 0.0, row.busy_ratio or 0.0)
    return (
        all(map(math.isfinite, numbers))
        and 0 <= row.seconds <= _LONGEST_S
        and 0 <= row.start < 1e11
        and 0 <= (row.peak_mib or 0.0) <= _MOST_MIB
        and 0 <= (row.busy_ratio or 0.0) <= 1
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
