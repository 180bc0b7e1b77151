"""Traces in the format of openb: nodes and pods as CSV; and the order in which pods arrive."""

import csv
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.demand import WHOLE, Demand, models_of
from deviceplugin.scheduler.objects import Node, Reading
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.coming import Coming, pending

MAX_GPUS = 64  # of a node or a pod
MAX_NUMBER = 10**9
_NODE = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
MAX_TIME = 2.0**36  # seconds: some two thousand years
_CREATED, _BEGAN, _LEFT = "creation_time", "scheduled_time", "deletion_time"
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_POD = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")


def read_nodes(path: Path) -> Sequence[NodeState]:
    """The nodes of the file, all free; raises ConfigError."""
    nodes = [
        NodeState(
            name=row["sn"],
            model=row["model"],
            cpu_milli=_number(path, line, row, "cpu_milli"),
            memory_mib=_number(path, line, row, "memory_mib"),
            free=[WHOLE] * _number(path, line, row, "gpu", MAX_GPUS),
        )
        for line, row in _rows(path, _NODE)
    ]
    if len({node.name for node in nodes}) < len(nodes):
        raise ConfigError("--nodes", str(path), "each name `sn` once")
    return nodes


def as_objects(nodes: Sequence[NodeState], reading: Reading) -> Sequence[Node]:
    """Nodes of which no more is known than counts, as the API server has them."""
    documents = [
        {
            "metadata": {"name": one.name, "labels": {reading.model_label: one.model}},
            "status": {
                "allocatable": {
                    "cpu": f"{one.cpu_milli}m",
                    "memory": f"{one.memory_mib}Mi",
                    reading.gpus[0]: str(len(one.free)),
                }
            },
        }
        for one in nodes
    ]
    return msgspec.convert(documents, list[Node])


def read_pods(path: Path) -> Sequence[Demand]:
    """The pods of the file by name; raises ConfigError."""
    named = [(row["name"], _demand(path, line, row)) for line, row in _rows(path, _POD)]
    return [demand for _, demand in sorted(named, key=lambda pair: pair[0])]


def read_coming(path: Path) -> Sequence[Coming]:
    """The pods with their times; raises ConfigError."""
    coming, seen = [], set[str]()
    for line, row in _rows(path, (*_POD, _CREATED)):
        at, seconds = _times(path, line, row)
        priority = _number(path, line, row, "priority") if row.get("priority") else 0
        names = row.get("namespace") or "default", row["name"]
        pod = pending(names, at, priority)
        if pod.key in seen:
            raise ConfigError(f"{path}, line {line}: name", row["name"], "each name once")
        seen.add(pod.key)
        demand = _demand(path, line, row)
        coming.append(Coming(at=at, pod=pod, demand=demand, seconds=seconds))
    return coming


def _times(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float | None]:
    """When it came, and for how long it ran; one that never ran, for as long as it was there."""
    came = _time(path, line, row, _CREATED)
    if came is None:
        raise ConfigError(f"{path}, line {line}: {_CREATED}", "", "seconds, a number from 0 on")
    began, left = (_time(path, line, row, column) for column in (_BEGAN, _LEFT))
    for column, value, least, name in (
        (_BEGAN, began, came, _CREATED),
        (_LEFT, left, came if began is None else began, _CREATED if began is None else _BEGAN),
    ):
        if value is not None and value < least:
            expected = f"{least:.0f} ({name}) or more, or nothing where it is not known"
            raise ConfigError(f"{path}, line {line}: {column}", row[column], expected)
    start = came if began is None else began
    return came, None if left is None else left - start


def _time(path: Path, line: int, row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column) or ""
    if not text:
        return None
    value = float(text) if _SECONDS.fullmatch(text) else math.inf
    if value > MAX_TIME:
        raise ConfigError(f"{path}, line {line}: {column}", text, "seconds, a number from 0 on")
    return value


def _demand(path: Path, line: int, row: Mapping[str, str]) -> Demand:
    gpus = _number(path, line, row, "num_gpu", MAX_GPUS)
    milli = _number(path, line, row, "gpu_milli", WHOLE)
    if gpus > 1 and milli != WHOLE:
        where = f"{path}, line {line}: gpu_milli"
        raise ConfigError(where, str(milli), f"{WHOLE} for a pod with several GPUs")
    if gpus == 1 and not milli:
        raise ConfigError(f"{path}, line {line}: gpu_milli", "0", f"a number from 1 to {WHOLE}")
    return Demand(
        cpu_milli=_number(path, line, row, "cpu_milli"),
        memory_mib=_number(path, line, row, "memory_mib"),
        gpus=gpus,
        gpu_milli=milli if gpus else WHOLE,
        models=models_of(row.get("gpu_spec") or "") if gpus else frozenset(),
    )


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(
                    str(path), ", ".join(missing), f"the columns {', '.join(columns)}"
                )
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError("trace", str(path), "a CSV file", reason=str(error)) from error


def _number(
    path: Path, line: int, row: Mapping[str, str], column: str, most: int = MAX_NUMBER
) -> int:
    text = row[column]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
    if not 0 <= number <= most:
        raise ConfigError(f"{path}, line {line}: {column}", text, f"a number from 0 to {most}")
    return number


def arrivals(
    pods: Sequence[Demand],
    until_milli: int,
    seed: int,
    asked: Callable[[Demand], int] = lambda pod: pod.total_milli,
) -> Sequence[Demand]:
    """The pods in an order by the seed, then random ones of them until that much is requested;
    `asked` are the thousandths of a pod."""
    chance = random.Random(seed)  # noqa: S311  # repeated by its seed
    order = list(pods)
    chance.shuffle(order)
    requested = sum(map(asked, pods))
    if not requested:
        return order
    while requested < until_milli:
        order.append(pod := chance.choice(pods))
        requested += asked(pod)
    return order
