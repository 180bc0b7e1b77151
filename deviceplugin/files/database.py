"""A small SQLite database of the state directory: bounded, of one version, and set aside where it
is damaged. Blocking; imported by what keeps one alone.
"""

import contextlib
import sqlite3
from pathlib import Path

from msgspec import Struct

_PAGE_BYTES = 4096
_FEWEST_PAGES = 16


class Form(Struct, frozen=True, kw_only=True):
    """What a file is made of: the statements of its tables, their version, and its bounds."""

    schema: str
    version: int
    max_bytes: int
    cache_kib: int


def opened(path: Path, form: Form) -> sqlite3.Connection:
    """The file, made where there is none; for any thread, one at a time.

    Raises OSError, and sqlite3.DatabaseError for one that is damaged or of another version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        path.chmod(0o600)  # it names pods
        _prepare(database, form)
    except BaseException:
        database.close()  # a damaged file, which is set aside
        raise
    return database


def _prepare(database: sqlite3.Connection, form: Form) -> None:
    database.execute("PRAGMA journal_mode = TRUNCATE")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(f"PRAGMA cache_size = -{form.cache_kib}")
    database.execute(f"PRAGMA max_page_count = {max(form.max_bytes // _PAGE_BYTES, _FEWEST_PAGES)}")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        made = f"BEGIN; {form.schema} PRAGMA user_version = {form.version}; COMMIT"
        database.executescript(made)
    elif version != form.version:
        raise sqlite3.DatabaseError(f"version {version}, which this program does not know")


def set_aside(path: Path) -> Path:
    """Where a damaged file stays for who wants it: a new one takes its place."""
    aside = path.with_suffix(".damaged")
    with contextlib.suppress(OSError):
        path.replace(aside)
    return aside
