"""Where labels go: into a feature file, or onto the node by the API server."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from deviceplugin.kubernetes.api import MERGE, Access, Api, in_cluster
from deviceplugin.labels.feature_file import NAME, feature_file
from deviceplugin.labels.node_patch import node_patch
from deviceplugin.runtime.files import trusted_directory, write_atomically


class Wanted(Struct, frozen=True, kw_only=True):
    """The labels and taints that the node should have; `now` is Unix time."""

    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    now: float


class Target(Protocol):
    """One place."""

    @property
    def why_left(self) -> str:
        """Why some labels are left out of it."""

    @property
    def again_s(self) -> float:
        """How often the same is written again."""

    async def write(self, wanted: Wanted) -> tuple[str, ...]:
        """Bring it up to date; the names of what is left out. Raises OSError or ApiError."""

    async def clear(self) -> None:
        """Take away all that was ever written there, as far as that can be done."""


class NoTarget(Struct, frozen=True):
    """Labels are off."""

    why_left: str = ""
    again_s: float = 3600.0

    async def write(self, wanted: Wanted) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def clear(self) -> None:
        """Nothing."""


class FileTarget(Struct, frozen=True):
    """A file for Node Feature Discovery, which forgets it after `expires_s`."""

    directory: str
    expires_s: float
    why_left: str = "a feature file has 64 KiB, and no labels without a prefix"

    @property
    def again_s(self) -> float:
        """Well before the labels end."""
        return self.expires_s / 2

    async def write(self, wanted: Wanted) -> tuple[str, ...]:
        """Without any label no file."""
        if not wanted.labels:
            await self.clear()
            return ()
        text, left = feature_file(wanted.labels, wanted.now + self.expires_s)
        await asyncio.to_thread(self._put, text.encode())
        return left

    def _put(self, content: bytes) -> None:
        """NFD's worker, which is not root, reads it."""
        trusted_directory(self._path.parent)
        write_atomically(self._path, content)

    async def clear(self) -> None:
        """Remove the file."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    @property
    def _path(self) -> Path:
        return Path(self.directory) / NAME


class ApiTarget(Struct, frozen=True):
    """The node's own object."""

    node: str
    access: Callable[[], Access] | None = None
    why_left: str = "somebody else has set it, and it stays as it is"
    again_s: float = 300.0  # others may have removed them

    async def write(self, wanted: Wanted) -> tuple[str, ...]:
        """Patch what differs."""
        return await asyncio.to_thread(self._write, wanted)

    async def clear(self) -> None:
        """Take the labels and taints away."""
        await asyncio.to_thread(self._write, Wanted(labels={}, taints=(), now=0.0))

    def _write(self, wanted: Wanted) -> tuple[str, ...]:
        """Only if nobody has changed the node meanwhile: who owns which label must stay true."""
        api = Api((self.access or in_cluster)())
        path = f"/api/v1/nodes/{self.node}"
        body, left = node_patch(api.request("GET", path), wanted.labels, wanted.taints)
        if body is not None:
            api.request("PATCH", path, body, MERGE)
        return left
