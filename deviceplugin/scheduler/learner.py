"""Makes a model anew from time to time, on a thread; the file keeps it over restarts."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from deviceplugin.learning.model import MAX_BYTES, Model, ModelError, decode, encode
from deviceplugin.learning.prometheus import read_runs
from deviceplugin.learning.runs import Run
from deviceplugin.learning.settings import Learning
from deviceplugin.learning.train import Settings, train
from deviceplugin.metrics.reply import StoreError
from deviceplugin.metrics.store import Store

log = structlog.get_logger()


class Learner:
    """Reads runs and makes models; `now` gives Unix seconds. Nothing here raises for what is
    outside: without a new model the old one ages, and the rule goes on alone."""

    def __init__(self, settings: Learning, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now, self._failure = settings, now, ""
        self._store = Store(settings.prometheus) if settings.prometheus else None

    def stored(self) -> Model | None:
        """The model of the file; None without a file, or with one that is none."""
        if not self._settings.file:
            return None
        try:
            return read_model(Path(self._settings.file))
        except FileNotFoundError:
            return None
        except (OSError, ModelError) as error:
            log.warning("scheduler_model_refused", file=self._settings.file, reason=str(error))
            return None

    def learn(self, watched: Sequence[Run]) -> Model | None:
        """A model of Prometheus' runs, without one of those that were watched; None where there are
        too few or none can be had."""
        of = self._settings
        try:
            runs = watched
            if self._store is not None:
                runs = read_runs(self._store.instant, self._now(), of.retention_s)
            self._tell("")
        except StoreError as error:
            self._tell(str(error))
            return None
        settings = Settings(retention_s=of.retention_s, name=of.name, version=of.version)
        model = train(runs, self._now(), settings)
        if model is not None and of.file:
            try:
                write_model(Path(of.file), model)
            except OSError as error:
                log.warning("scheduler_model_not_kept", file=of.file, reason=str(error))
        return model

    def _tell(self, failure: str) -> None:
        """Once per change."""
        if failure and not self._failure:
            log.warning("scheduler_learning_failed", error=failure)
        self._failure = failure


def read_model(path: Path) -> Model:
    """Raises OSError and ModelError."""
    with path.open("rb") as file:
        return decode(file.read(MAX_BYTES))


def write_model(path: Path, model: Model) -> None:
    """Whole or not at all; raises OSError."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(encode(model))
        os.replace(new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
