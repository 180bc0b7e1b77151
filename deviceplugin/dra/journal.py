"""Which claims are prepared, in files that outlive the process: one for each claim, written before
anything else is done for it and removed after everything else is undone.

So a process that is killed at any point leaves a claim that holds its devices, never a device in
use that looks free. A file that is damaged costs one claim its memory, not the node its service.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.dra.claims import UID, ClaimRef
from deviceplugin.dra.partitions import Placement
from deviceplugin.errors import DevicePluginError
from deviceplugin.files.reading import read_own
from deviceplugin.model import Device, DeviceID
from deviceplugin.runtime.files import own_directory, write_atomically

log = structlog.get_logger()

VERSION = 1
MAX_BYTES = 256 * 1024
MODE = 0o600
_END, _DAMAGED = ".json", ".damaged"


class JournalError(DevicePluginError):
    """The journal cannot be written: nothing may be given."""


class Prepared(Struct, frozen=True, kw_only=True):
    """A device that a claim has, or with `share_id` the part of it that is `consumed`; `device` is
    its id, which stays when its name moves, or empty where it is not known any more. `known` is
    what it was when it was prepared, `place` what was or has to be made for the claim."""

    request: str
    pool: str
    name: str
    device: DeviceID
    admin: bool = False
    share_id: str | None = None
    consumed: Mapping[str, int] = field(default_factory=dict)
    known: Device | None = None
    place: Placement | None = None

    @property
    def key(self) -> str:
        """What tells it from the others of its claim; no name of a device has a colon."""
        return self.name if self.share_id is None else f"{self.name}:{self.share_id}"


class Entry(Struct, frozen=True, kw_only=True):
    """A claim that is being prepared or is, for `pods` (uids); `boot` is the kernel's id of that
    boot. Fields that a later version adds are passed over."""

    ref: ClaimRef
    devices: tuple[Prepared, ...]
    pods: tuple[str, ...] = ()
    boot: str | None = None
    version: int = VERSION


class Journal:
    """The entries below `directory`; what reads and writes blocks."""

    def __init__(self, directory: Path, boot: str | None) -> None:
        self._directory, self._boot = directory, boot

    def load(self) -> tuple[Mapping[str, Entry], Sequence[str]]:
        """The entries of this boot by uid, and the uids of those that are damaged.

        Those of an earlier boot are removed: no container of theirs has outlived it, and a pod
        that still wants its claim prepares it again. Raises JournalError.
        """
        found: dict[str, Entry] = {}
        damaged: list[str] = []
        for path in sorted(self._paths()):
            entry = _read(path)
            if entry is None:
                damaged.append(path.name.removesuffix(_END))
                continue
            if self._boot is not None and entry.boot not in (None, self._boot):
                path.unlink(missing_ok=True)
                log.info("dra_claim_of_earlier_boot", claim=entry.ref.text, uid=entry.ref.uid)
                continue
            found[entry.ref.uid] = entry
        return found, [uid for uid in damaged if UID.fullmatch(uid)]

    def write(self, entry: Entry) -> Entry:
        """The entry, of this boot, is on disk when this returns; raises JournalError."""
        entry = replace(entry, boot=self._boot)
        try:
            own_directory(self._directory)
            write_atomically(self._path(entry.ref.uid), _encoded(entry), MODE)
        except OSError as error:
            raise JournalError(_text(error, self._directory)) from error
        return entry

    def remove(self, uid: str) -> None:
        """The entry is gone from disk when this returns; raises JournalError."""
        try:
            self._path(uid).unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(_text(error, self._directory)) from error

    def _path(self, uid: str) -> Path:
        return self._directory / f"{uid}{_END}"

    def _paths(self) -> Iterator[Path]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(_text(error, self._directory)) from error
        yield from (self._directory / name for name in names if name.endswith(_END))


def _encoded(entry: Entry) -> bytes:
    return msgspec.json.encode(entry, enc_hook=dict)  # a read-only mapping


def _read(path: Path) -> Entry | None:
    """The entry of a file; one that cannot be used is set aside, for a person to see."""
    try:
        entry = msgspec.json.decode(read_own(path, MAX_BYTES), type=Entry)
    except (OSError, msgspec.MsgspecError) as error:
        reason = str(error)
    else:
        if entry.ref.uid == path.name.removesuffix(_END) and UID.fullmatch(entry.ref.uid):
            return entry
        reason = "it is that of another claim"
    try:
        path.replace(path.with_suffix(_DAMAGED))
    except OSError as error:
        reason = f"{reason}; {error.strerror}"
    log.error("dra_journal_damaged", path=str(path), reason=reason)
    return None


def _text(error: OSError, directory: Path) -> str:
    return f"{error.filename or directory}: {error.strerror}"
