"""The CDI file of each prepared claim."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.cdi.spec import document
from deviceplugin.dra.claims import UID
from deviceplugin.edits import merge_edits
from deviceplugin.files.reading import read_own
from deviceplugin.model import CdiSpec, ContainerEdits
from deviceplugin.runtime.files import trusted_directory, write_atomically

MAX_BYTES = 1 << 20
_START, _END = "deviceplugin-dra_", ".json"


class DeviceEdits(Struct, frozen=True):
    """What a container gets with a device, and what it gets once with any of them."""

    own: ContainerEdits
    common: ContainerEdits


class ClaimFiles:
    """The files of one driver below `directory`: blocking; each call raises OSError.

    A claim has a file and names of its own, so that what a runtime keeps of one is never of
    another, and a file that is removed takes nothing with it.
    """

    def __init__(self, directory: Path, driver: str) -> None:
        self._directory, self._driver = directory, driver

    def cdi_id(self, uid: str, device: str) -> str:
        """The full CDI name of a device of a claim."""
        return f"{self._kind}={uid}-{device}"

    def write(self, uid: str, edits: Mapping[str, DeviceEdits], claim: ContainerEdits) -> None:
        """Write the file of a claim, whole or not at all; `claim` are edits of its own."""
        spec = CdiSpec(
            kind=self._kind,
            devices={f"{uid}-{name}": one.own for name, one in edits.items()},
            common=merge_edits((*(one.common for one in edits.values()), claim)),
        )
        trusted_directory(self._directory)
        write_atomically(self._path(uid), document(spec))

    def names(self, uid: str) -> tuple[str, ...]:
        """The devices that the file of a claim names, for want of a better witness; none where
        it says nothing. How much a claim has of a device it does not say."""
        try:
            content: Any = json.loads(read_own(self._path(uid), MAX_BYTES))
            found = [str(device["name"]) for device in content["devices"]]
        except (OSError, ValueError, LookupError, TypeError):
            return ()
        return tuple(name.removeprefix(f"{uid}-").partition(":")[0] for name in found)

    def remove(self, uid: str) -> None:
        """Remove the file of a claim, if there is one."""
        self._path(uid).unlink(missing_ok=True)

    def remove_others(self, uids: Collection[str]) -> None:
        """Remove what was left of claims that are not prepared."""
        start = f"{_START}{self._driver}_"
        for name in os.listdir(self._directory) if self._directory.is_dir() else ():
            uid = name.removeprefix(start).removesuffix(_END)
            ours = name == f"{start}{uid}{_END}" and UID.fullmatch(uid)
            if ours and uid not in uids:
                (self._directory / name).unlink(missing_ok=True)

    @property
    def _kind(self) -> str:
        return f"k8s.{self._driver}/claim"

    def _path(self, uid: str) -> Path:
        return self._directory / f"{_START}{self._driver}_{uid}{_END}"
