"""Everything the kubelet stub saw of the plugin, kept in order; nothing is judged here."""

from collections.abc import Iterator
from pathlib import Path

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.testing.happenings import Asked, Ended, Happening, Listed, Opened, Refused


class Record:
    """A listener of the stub. `silent` are the Registers at whose arrival nobody accepted,
    `doubled` those after which a resource had several streams, but not while `rolling`."""

    def __init__(self, socket_dir: Path) -> None:
        self.happenings: list[Happening] = []
        self.silent: list[Asked] = []
        self.doubled: list[Opened] = []
        self.rolling = False
        self._socket_dir = socket_dir

    def __call__(self, happening: Happening) -> None:
        self.happenings.append(happening)
        if isinstance(happening, Asked) and not self._accepts(happening):
            self.silent.append(happening)
        if isinstance(happening, Opened) and happening.live > 1 and not self.rolling:
            self.doubled.append(happening)

    @property
    def asked(self) -> list[Asked]:
        """Every Register."""
        return [h for h in self.happenings if isinstance(h, Asked)]

    @property
    def refused(self) -> list[Refused]:
        """Every Register that failed."""
        return [h for h in self.happenings if isinstance(h, Refused)]

    @property
    def opened(self) -> list[Opened]:
        """Every Register that succeeded."""
        return [h for h in self.happenings if isinstance(h, Opened)]

    @property
    def listed(self) -> list[Listed]:
        """Every list."""
        return [h for h in self.happenings if isinstance(h, Listed)]

    @property
    def ended(self) -> list[Ended]:
        """Every end of a stream."""
        return [h for h in self.happenings if isinstance(h, Ended)]

    def first_lists(self) -> Iterator[Listed]:
        """The first list of each stream."""
        seen: set[int] = set()
        for listed in self.listed:
            if listed.stream not in seen:
                seen.add(listed.stream)
                yield listed

    def follow_ups(self) -> Iterator[tuple[Listed, Listed]]:
        """Each list with the one before it on its stream."""
        last: dict[int, Listed] = {}
        for listed in self.listed:
            if listed.stream in last:
                yield last[listed.stream], listed
            last[listed.stream] = listed

    def _accepts(self, asked: Asked) -> bool:
        return is_listening(self._socket_dir / asked.request.endpoint.lstrip("/"))
