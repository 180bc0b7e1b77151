"""Files that are there whole or not at all, in directories that are ours to write."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from deviceplugin.files.reading import ForeignFileError, foreign_problem, kind_of, read_own

PRIVATE = 0o750
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Replace the file by temporary file, fsync and rename; equal content is not written.

    Says whether it wrote. A file that others can write is replaced whatever it holds, and what lies
    at the temporary name is removed, never followed and never used. Raises OSError that names
    the file, also for a directory that others can write; the old file stays in that case.
    """
    if _content(path, len(content) + 1) == content:
        return False
    trusted_directory(path.parent, PRIVATE)
    try:
        _replace(path, content, mode)
    except OSError as error:  # the temporary name helps nobody
        raise OSError(error.errno, error.strerror, str(path)) from error
    _sync_directory(path.parent)
    return True


def _replace(path: Path, content: bytes, mode: int) -> None:
    # Always the same name, so that a process that is killed here leaves one file and not one more.
    temporary = path.with_name(f".{path.name}.new")
    descriptor = _created(temporary)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def own_directory(path: Path, mode: int = PRIVATE) -> None:
    """Make the directory, or see that it is ours alone: real, of our user, open as `mode` says.

    One of our user that is more open is closed; raises OSError with the reason for any other. For
    a directory whose name is ours: see `trusted_directory`.
    """
    _make(path, mode)
    descriptor = _opened(path)
    try:
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) & ~mode & 0o777 and status.st_uid == os.geteuid():
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & mode)
            status = os.fstat(descriptor)
        if problem := foreign_problem(status):
            raise _foreign(path, problem)
    finally:
        os.close(descriptor)


def trusted_directory(path: Path, mode: int = 0o755) -> None:
    """Make the directory, or see that nobody else can write it; raises OSError with the reason.

    Its mode stays as it is: the name comes from a person, and may be that of a directory which is
    not there for us alone.
    """
    _make(path, mode)
    descriptor = _opened(path)
    try:
        if problem := foreign_problem(os.fstat(descriptor)):
            raise _foreign(path, problem)
    finally:
        os.close(descriptor)


def remove_irregular(path: Path) -> None:
    """Remove what lies where a socket of ours belongs and is none; raises OSError for a directory,
    which somebody may want."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        path.unlink()


def _make(path: Path, mode: int) -> None:
    """With its parents, whatever the umask: others may have to pass through those."""
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    for one in reversed(missing):
        with suppress(FileExistsError):
            one.mkdir(mode=0o700)
            one.chmod(mode if one == path else 0o755)


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except NotADirectoryError as error:  # for a link, too
        kind = kind_of(os.lstat(path).st_mode)
        raise _foreign(path, f"it is {kind}, not a directory") from error


def _foreign(path: Path, problem: str) -> ForeignFileError:
    return ForeignFileError(str(path), f"{problem}: it is not used; correct or remove it")


def _created(path: Path) -> int:
    """A new file; whatever is at its name is what a killed process or somebody else left."""
    path.unlink(missing_ok=True)
    return os.open(path, _WRITE, 0o600)


def _content(path: Path, size: int) -> bytes | None:
    """What a file of ours holds, as far as it matters."""
    try:
        return read_own(path, size)
    except OSError:
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
