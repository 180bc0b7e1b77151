"""The commands `scheduler train` and `scheduler model`: a model made by hand, and its figures."""

import csv
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deviceplugin.cli.progress import progress
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.learning.model import Model, ModelError
from deviceplugin.learning.prometheus import read_runs
from deviceplugin.learning.runs import Run
from deviceplugin.learning.train import FEW, Settings, train
from deviceplugin.metrics.store import Access, Store
from deviceplugin.scheduler.learner import read_model, write_model

Document = dict[str, Any]
_COLUMNS = ("namespace", "owner", "start", "seconds")
DAY_S = 86_400.0


def _found(access: Access | None, runs: str | None, days: int) -> tuple[list[Run], float]:
    """The runs, and the end of their time."""
    now = time.time()
    if access is not None:
        return read_runs(Store(access).instant, now, days * DAY_S), now
    found = list(_runs(Path(runs or "")))
    return found, max((run.end for run in found), default=now)


def train_once(access: Access | None, runs: str | None, model: str, days: int) -> Document:
    """Make the model, write it, and tell of it; raises ConfigError and StoreError."""
    if (access is None) == (runs is None):
        given = access.address if access else None
        raise ConfigError("--prometheus, --runs", given, "one of them")
    with progress("reading runs") as told:
        found, until = _found(access, runs, days)
        told.what = f"learning from {len(found)} runs"
        made = train(found, until, Settings(retention_s=days * DAY_S))
    if made is None:
        raise DevicePluginError(
            f"{len(found)} runs were found; a model needs {FEW} that ended in {days} days"
        )
    try:
        write_model(Path(model), made)
    except OSError as error:
        raise ConfigError("--model", model, "a file to write", reason=str(error)) from error
    return _shown(made)


def shown_model(file: str) -> Document:
    """What is in a model; raises ConfigError."""
    try:
        return _shown(read_model(Path(file)))
    except (OSError, ModelError) as error:
        raise ConfigError("FILE", file, "a model of train", reason=str(error)) from error


def _shown(model: Model) -> Document:
    """Without the runs that predictions start from."""
    shown: Document = msgspec.to_builtins(model)
    groups = len({run.group for run in model.latest})
    shown["latest"] = f"{len(model.latest)} runs of {groups} groups"
    return shown


def _runs(path: Path) -> Iterator[Run]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                meant = f"the columns {', '.join(_COLUMNS)}"
                raise ConfigError(str(path), ", ".join(missing), meant)
            for row in reader:
                yield _run(f"{path}, line {reader.line_num}", row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError("--runs", str(path), "a CSV file", reason=str(error)) from error


def _run(where: str, row: Mapping[str, str]) -> Run:
    peak, busy = row.get("peak_mib"), row.get("busy_ratio")
    return Run(
        namespace=row["namespace"],
        owner=row["owner"],
        container=row.get("container") or "",
        start=_number(where, "start", row["start"]),
        seconds=_number(where, "seconds", row["seconds"]),
        peak_mib=_number(where, "peak_mib", peak) if peak else None,
        busy_ratio=_number(where, "busy_ratio", busy) if busy else None,
    )


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e12:
        raise ConfigError(f"{where}: {column}", text, "a number from 0")
    return number
