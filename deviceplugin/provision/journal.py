"""What was begun and what we made, in one file: written before a step and after it.

The file is replaced whole and synced, so it holds what was before or what is after. What it says
holds for one boot: no MIG instance outlives one.
"""

from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.files.reading import read_own
from deviceplugin.provision.values import Place
from deviceplugin.runtime.files import write_atomically
from deviceplugin.vendor.partitions import Step, Verb

NAME = "partitions.json"
VERSION = 1
MAX_BYTES = 1 << 20


class Begun(Struct, frozen=True, kw_only=True):
    """A transaction that is not over: its steps, the one that was begun last, and whether they are
    being taken back."""

    steps: tuple[Step, ...]
    at: int = 0
    back: bool = False
    reason: str = ""


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. `made` are the MIG instances of ours by GPU."""

    version: int = VERSION
    boot: str = ""
    made: dict[str, tuple[Place, ...]] = {}
    begun: Begun | None = None


class Journal:
    """The record of a state directory; every change of it is on the disk when the call returns."""

    def __init__(self, state_dir: Path, boot: str) -> None:
        """Raises VendorError for a file that cannot be understood: who made what is not guessed."""
        self.path = state_dir / NAME
        self.record = _of_boot(_read(self.path), boot)

    def places(self, gpu: str) -> frozenset[Place]:
        """Those of our instances on a GPU."""
        return frozenset(self.record.made.get(gpu, ()))

    def begin(self, steps: tuple[Step, ...]) -> None:
        """Steps that will be done."""
        self._write(replace(self.record, begun=Begun(steps=steps)))

    def note(self, at: int, *, back: bool = False, reason: str = "") -> None:
        """The step that is begun now, or taken back."""
        begun = self.record.begun
        if begun is None:
            raise VendorError("no change was begun")
        reason = reason or begun.reason
        self._write(replace(self.record, begun=replace(begun, at=at, back=back, reason=reason)))

    def done(self, step: Step) -> None:
        """A step, or its way back, is done: what is ours follows."""
        places = set(self.record.made.get(step.gpu, ()))
        place = (step.name, step.number)
        if step.verb is Verb.CREATE:
            places.add(place)
        elif step.verb is Verb.DESTROY:
            places.discard(place)
        else:
            return
        made = {**self.record.made, step.gpu: tuple(sorted(places))}
        self._write(replace(self.record, made=made))

    def end(self) -> None:
        """All is done, or all is taken back."""
        self._write(replace(self.record, begun=None))

    def _write(self, record: Record) -> None:
        try:
            write_atomically(self.path, msgspec.json.encode(record), 0o600)
        except OSError as error:
            text = (
                f"{self.path} cannot be written ({error.strerror}): nothing is changed without it"
            )
            raise VendorError(text) from error
        self.record = record


def _read(path: Path) -> Record:
    try:
        record = msgspec.json.decode(read_own(path, MAX_BYTES), type=Record)
    except FileNotFoundError:
        return Record()
    except OSError as error:
        raise VendorError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        text = "see which instances are there, then move it away: what they are is not guessed"
        raise VendorError(f"{path} is damaged ({error}): {text}") from error
    if record.version != VERSION:
        raise VendorError(f"{path} is of version {record.version}, this program writes {VERSION}")
    return record


def _of_boot(record: Record, boot: str) -> Record:
    return record if record.boot == boot else Record(boot=boot)
