"""Device nodes as plain files below a root: to make real ones takes a right that tests may lack."""

from pathlib import Path

import msgspec

from deviceplugin.host.device_nodes import Node


class PlainNodes:
    """As DeviceNodes; `forbidden` as where the right is missing."""

    def __init__(self, root: Path, *, forbidden: bool = False) -> None:
        self._root, self._forbidden = root, forbidden

    def read(self, path: str) -> Node | None:
        try:
            return msgspec.json.decode(self._at(path).read_bytes(), type=Node)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def make(self, path: str, node: Node) -> None:
        self._check()
        file = self._at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(msgspec.json.encode(node))

    def remove(self, path: str) -> None:
        self._check()
        self._at(path).unlink()

    def names(self) -> list[str]:
        """Those that are there."""
        return sorted(one.name for one in self._at("/dev/nvidia-caps").glob("*"))

    def _at(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _check(self) -> None:
        if self._forbidden:
            raise PermissionError("mknod")
