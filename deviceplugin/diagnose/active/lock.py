"""The lock of active tests: one test on a node at a time, and proof that its processes live.

The lock belongs to the open file, which every process of a test inherits: it is free when the last
of them has ended, however that happened. Blocking.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from deviceplugin.files.reading import ForeignFileError, foreign_problem

LOCK = "active-test.lock"
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def take(state_dir: Path) -> int | None:
    """The descriptor that holds the lock, None where another test has it; raises OSError."""
    descriptor = os.open(state_dir / LOCK, _FLAGS | os.O_CREAT, 0o600)
    try:
        if problem := foreign_problem(os.fstat(descriptor)):
            raise ForeignFileError(str(state_dir / LOCK), problem)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_taken(state_dir: Path) -> bool:
    """Whether a process of a test lives; one that cannot be asked for does not."""
    with suppress(OSError):
        descriptor = os.open(state_dir / LOCK, _FLAGS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
