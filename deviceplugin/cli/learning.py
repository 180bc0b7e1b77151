"""The commands `scheduler train` and `scheduler model`: a model made by hand, and its figures."""

import asyncio
import csv
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deviceplugin.cli.progress import progress
from deviceplugin.cli.sources import sources_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.learning.model import Model, ModelError
from deviceplugin.learning.nodes import merged
from deviceplugin.learning.prometheus import read_runs
from deviceplugin.learning.runs import Run
from deviceplugin.learning.train import FEW, Settings, train
from deviceplugin.metrics.store import Access, Store
from deviceplugin.scheduler.histories import Histories, daemons_of
from deviceplugin.scheduler.kinds import Watched
from deviceplugin.scheduler.learner import read_model, write_model
from deviceplugin.scheduler.listing import Items, Listing
from deviceplugin.scheduler.objects import Pod

Document = dict[str, Any]
_COLUMNS = ("namespace", "owner", "start", "seconds")
DAY_S = 86_400.0


def train_once(flags: Mapping[str, str | None], model: str, days: int) -> Document:
    """Make the model of the runs that the flags name, write it, and tell of it; raises
    ConfigError, StoreError, ApiError and DevicePluginError."""
    given = [flags[name] for name in ("prometheus", "history", "runs") if flags[name]]
    sources = sources_of(flags)
    if len(given) != 1:
        told = ", ".join(filter(None, given)) or None
        raise ConfigError("--prometheus, --history, --runs", told, "one of them")
    with progress("reading runs") as told_of:
        found, until = _found(sources, flags["runs"], days)
        told_of.what = f"learning from {len(found)} runs"
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


def _found(
    sources: Mapping[str, Access | None], file: str | None, days: int
) -> tuple[list[Run], float]:
    """The runs, and the end of their time."""
    now = time.time()
    if (store := sources["prometheus"]) is not None:
        return read_runs(Store(store).instant, now, days * DAY_S), now
    if (daemons := sources["histories"]) is not None:
        return asyncio.run(_of_nodes(daemons)), now
    found = list(_runs(Path(file or "")))
    return found, max((run.end for run in found), default=now)


async def _of_nodes(access: Access) -> list[Run]:
    """What the daemons of this cluster give; raises ApiError, and DevicePluginError where none
    gives any."""
    from deviceplugin.kubernetes.api import Api, in_cluster  # noqa: PLC0415  # where it is asked

    daemons = daemons_of(access)
    what = Watched(path=f"/api/v1/namespaces/{daemons.namespace}/pods", kind=Pod)
    listing = Listing(Api(in_cluster()), what, Items(what))
    listed = await asyncio.to_thread(listing.all)
    histories = Histories(access, lambda: daemons.places(listed.found))
    runs = merged(await histories.collect(), {}, ())
    if not runs:
        told = ", ".join(f"{count} {outcome}" for outcome, count in histories.outcomes.items())
        raise DevicePluginError(f"{access.address}: no daemon gave runs: {told}")
    return runs


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
