"""Traces in the format of openb: nodes and pods as CSV; and the order in which pods arrive."""

import csv
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.demand import WHOLE, Demand, models_of
from deviceplugin.scheduler.room import NodeState

MAX_GPUS = 64  # of a node or a pod
MAX_NUMBER = 10**9
_NODE = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
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


def read_pods(path: Path) -> Sequence[Demand]:
    """The pods of the file by name; raises ConfigError."""
    named = [(row["name"], _demand(path, line, row)) for line, row in _rows(path, _POD)]
    return [demand for _, demand in sorted(named, key=lambda pair: pair[0])]


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
