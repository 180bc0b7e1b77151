"""What containers were told of their slices, each as a file that it can read and not write.

A file has a name of its own, because a container keeps its mount while the ids that it had are
given to another. It says the ids, so that it can be removed when nobody has them any more. Its
lines are variables as they are in the container's environment; one that begins with # is none.
Blocking.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from deviceplugin.files.reading import read_own
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.runtime.files import write_atomically

FOLDER = "limits"  # below the state directory
PLACE = "/run/deviceplugin/limits"  # of a container
MAX_BYTES = 1 << 20
GONE_S = 120.0  # as the ledger: until then a container that was given ids may not be listed
_RESOURCE, _ID, _CLAIM = "# resource ", "# id ", "claim"

Key = tuple[ResourceName, AdvertisedID]


def place_of(resource: ResourceName) -> str:
    """Where the container finds the file of a resource."""
    return f"{PLACE}/{resource.replace('/', '_')}"


def file_text(resource: ResourceName, ids: Sequence[str], env: Mapping[str, str]) -> str:
    """The content, sorted; a value never has a line of its own."""
    lines = [f"{_RESOURCE}{resource}", *(f"{_ID}{one}" for one in sorted(ids))]
    lines += [f"{name}={value}" for name, value in sorted(env.items()) if "\n" not in value]
    return "\n".join(lines) + "\n"


def claim_key(uid: str) -> Key:
    """What the file of a claim is written for."""
    return (ResourceName(_CLAIM), AdvertisedID(uid))


def claim_path(state_dir: Path, driver: str, uid: str) -> str:
    """The file of a claim on the host."""
    return f"{state_dir}/{FOLDER}/{claim_place(driver, uid).rpartition('/')[2]}"


def claim_place(driver: str, uid: str) -> str:
    """Where its containers find it."""
    return f"{PLACE}/{_CLAIM}_{driver}_{uid}"


def keys_in(text: str) -> frozenset[Key]:
    """The ids that a file was written for."""
    lines = text.splitlines()
    names = [line.removeprefix(_RESOURCE) for line in lines if line.startswith(_RESOURCE)]
    ids = [line.removeprefix(_ID) for line in lines if line.startswith(_ID)]
    return frozenset((ResourceName(names[0]), AdvertisedID(one)) for one in ids if names)


class LimitFile(Struct, frozen=True, kw_only=True):
    """A file that is there, and whose ids it has."""

    path: Path
    keys: frozenset[Key]


class LimitFiles:
    """The files below one folder of the host."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._unused: dict[Path, float] = {}

    def write(self, resource: ResourceName, ids: Sequence[str], env: Mapping[str, str]) -> Path:
        """A new file; raises OSError."""
        content = file_text(resource, ids, env).encode()
        digest = hashlib.sha256(content).hexdigest()[:16]
        number = 0
        while (path := self._folder / f"{digest}-{number}").exists():
            number += 1
        write_atomically(path, content, 0o444)
        return path

    def write_claim(self, driver: str, uid: str, env: Mapping[str, str]) -> Path:
        """The one file of a claim, which its containers share; raises OSError."""
        path = Path(claim_path(self._folder.parent, driver, uid))
        write_atomically(path, file_text(ResourceName(_CLAIM), [uid], env).encode(), 0o444)
        return path

    def read(self) -> Sequence[LimitFile]:
        """All files; one that cannot be read is nobody's."""
        found = []
        with suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                text = ""
                with suppress(OSError):
                    text = read_own(path, MAX_BYTES).decode("utf-8", "replace")
                found.append(LimitFile(path=path, keys=keys_in(text)))
        return found

    def sweep(self, files: Iterable[LimitFile], held: frozenset[Key], now_s: float) -> int:
        """Remove each of `files` of whose ids none is held, and none was for a while; how many.

        `held` must be younger than `files`: what is written since then is not looked at.
        """
        unused = {file.path for file in files if not file.keys & held}
        self._unused = {path: self._unused.get(path, now_s) for path in unused}
        old = [path for path, since_s in self._unused.items() if now_s - since_s >= GONE_S]
        for path in old:
            with suppress(OSError):
                path.unlink()
            del self._unused[path]
        return len(old)
