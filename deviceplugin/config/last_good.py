"""The last good configuration outlives a restart: a copy in the state directory, by which the
daemon serves while the files are bad at its start."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.config.config import Config, Setting, parse_directory
from deviceplugin.config.effective import effective
from deviceplugin.config.files import Source, read_kept, read_state
from deviceplugin.config.load import load
from deviceplugin.config.origins import given_settings
from deviceplugin.errors import ConfigError
from deviceplugin.files.reading import foreign_problem
from deviceplugin.runtime.files import write_atomically
from deviceplugin.vendor import VendorModule

log = structlog.get_logger()

FILE = "last-good-configuration.json"
Flags = Mapping[str, str | None]


class Started(Struct, frozen=True, kw_only=True):
    """The configuration to start with; `refused` is why it is not the one of the files, empty
    where it is, `instead` what it is then, `good_at` (Unix seconds) when that was in force."""

    config: Config
    modules: Sequence[VendorModule]
    refused: str = ""
    instead: str = ""
    good_at: float | None = None


def load_or_last_good(flags: Flags) -> Started:
    """The configuration, or the copy of the last good one where the files are bad.

    Raises ConfigError where there is no copy that can be used; a bad flag or variable is no
    matter of files, so it ends this too.
    """
    given = given_settings(flags, os.environ).get("config")
    source = _source(given) if given else None
    try:
        config, modules = load(flags)
        return Started(config=config, modules=modules)
    except ConfigError as error:
        kept = _kept(flags, source) if source else None
        if kept is None:
            raise
        return replace(kept, refused=str(error))


def _source(given: Setting) -> Source:
    path = Path(str(given.value))
    return Source(path, read_state(path))  # before the files are read: no change is missed


def _kept(flags: Flags, source: Source) -> Started | None:
    try:
        path = state_dir_of(flags) / FILE
        status = path.lstat()
        if foreign_problem(status):  # somebody else's configuration is none of ours
            return None
        good_at = status.st_mtime
        config, modules = load({**flags, "config": str(path)}, read_files=read_kept)
    except (ConfigError, OSError):
        return None
    when = datetime.fromtimestamp(good_at, UTC).strftime("%F %TZ")
    return Started(
        config=replace(
            config, source=source, notes=(), renamed=(), unread=(), conflicts=(), beside=()
        ),
        modules=modules,
        instead=f"the last good one of {when}, kept in {path}",
        good_at=good_at,
    )


def state_dir_of(flags: Flags) -> Path:
    """The state directory as flags and variables say it, without any file; raises ConfigError."""
    given = given_settings({"state_dir": flags.get("state_dir")}, os.environ)
    return parse_directory(given["state_dir"]) if given else Config(node_name="").state_dir


def keep_copy(config: Config) -> None:
    """Keep a configuration that is in force; one that cannot be kept is logged."""
    path = config.state_dir / FILE
    content = json.dumps(effective(config), indent=1).encode()
    try:
        write_atomically(path, content, 0o600)
    except OSError as error:
        log.warning("configuration_not_kept", path=str(path), reason=error.strerror)
