"""What tests of this node's GPUs found, in a file of the state directory: bounded, written by the
process that has the lock of active tests, read by the daemon and by the next test. Blocking."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import structlog

from deviceplugin.diagnose.active.values import Past
from deviceplugin.files.reading import read_own
from deviceplugin.runtime.files import write_atomically

FILE = "active-tests.json"
MAX_BYTES = 4 << 20
MAX_KEPT = 20  # of each GPU and test
MAX_GPUS = 64
log = structlog.get_logger()


class _Document(msgspec.Struct, frozen=True):
    format: int
    tests: tuple[Past, ...]


def read_past(state_dir: Path) -> tuple[Past, ...]:
    """The kept tests, oldest first; of a file that cannot be read none."""
    try:
        text = read_own(state_dir / FILE, MAX_BYTES)
        return msgspec.json.decode(text, type=_Document).tests
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        log.warning("active_tests_unreadable", file=str(state_dir / FILE), reason=str(error))
        return ()


def write_past(state_dir: Path, past: Iterable[Past]) -> None:
    """Keep the newest of each GPU and test; raises OSError."""
    document = _Document(1, tuple(newest(past)))
    write_atomically(state_dir / FILE, msgspec.json.encode(document) + b"\n", 0o640)


def newest(past: Iterable[Past]) -> Sequence[Past]:
    """As many of each GPU and test, and as many GPUs, as are kept; the oldest first."""
    ordered = sorted(past, key=lambda one: one.at, reverse=True)
    gpus = list(dict.fromkeys(one.outcome.device for one in ordered))[:MAX_GPUS]
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for one in ordered:
        key = (one.outcome.device, one.outcome.test)
        counts[key] = counts.get(key, 0) + 1
        if one.outcome.device in gpus and counts[key] <= MAX_KEPT:
            kept.append(one)
    return kept[::-1]


def latest(past: Iterable[Past]) -> Sequence[Past]:
    """The newest of each GPU and test, by GPU."""
    found = {(one.outcome.device, one.outcome.test): one for one in past}
    return [found[key] for key in sorted(found)]
