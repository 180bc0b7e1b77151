"""Everything the kubelet stub saw of the plugin, kept in order; nothing is judged here."""

from collections.abc import Iterator
from pathlib import Path

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.testing.happenings import Asked, Ended, Happening, Listed, Opened, Refused

BY_ITSELF = "ended by the plugin"
DYING_S = (0.1, 2.0)  # seconds before and after a Register


class Record:
    """A listener of the stub.

    `silent` are the Registers at whose arrival nobody accepted, `unmade` those of them whose
    socket had been there and was removed, `needless` those for which there was no reason, and
    `doubled` those after which a resource had several streams; none of the last two while
    `rolling`. `touched_at_s`: when the suite first did what may change a list.
    `ended_at_s`: when processes of the plugin ended on their own.
    """

    def __init__(self, socket_dir: Path) -> None:
        self.happenings: list[Happening] = []
        self.silent: list[Asked] = []
        self.unmade: list[Asked] = []
        self.needless: list[Asked] = []
        self.doubled: list[Opened] = []
        self.rolling = False
        self.knows_the_process = False
        self.touched_at_s: float | None = None
        self.ended_at_s: list[float] = []
        self._socket_dir = socket_dir
        self._removed: set[Path] = set()
        self._registered: dict[str, int] = {}

    def __call__(self, happening: Happening) -> None:
        self.happenings.append(happening)
        match happening:
            case Asked():
                self._note_register(happening)
            case Opened():
                self._registered[happening.resource] = happening.generation
                if happening.live > 1 and not self.rolling:
                    self.doubled.append(happening)
            case Refused():
                self.excuse(happening.resource)
            case Ended() if happening.reason != BY_ITSELF and not self.knows_the_process:
                self.excuse(happening.resource)  # a person may have started it again

    # What the suite does

    def excuse(self, resource: str | None = None) -> None:
        """The resource, or any, has a reason now to register again."""
        if resource is None:
            self._registered.clear()
        self._registered.pop(resource or "", None)

    def note_end(self, at_s: float) -> None:
        """A process of the plugin has ended on its own."""
        self.ended_at_s.append(at_s)
        self.excuse()

    def removes_sockets(self, *paths: Path) -> None:
        """These sockets, of those on which somebody listens, are about to be removed."""
        self._removed |= {path for path in paths if is_listening(path)}

    def touch(self, at_s: float) -> None:
        """From now on lists may change because of what the suite does."""
        if self.touched_at_s is None:
            self.touched_at_s = at_s

    # What was seen

    def is_of_the_dying(self, asked: Asked) -> bool:
        """Whether the Register was under way when its process ended, which is noticed later."""
        return any(-DYING_S[0] <= at_s - asked.at_s <= DYING_S[1] for at_s in self.ended_at_s)

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

    def second_lists(self) -> Iterator[tuple[Listed, Listed]]:
        """The first list of each stream with the second, where there is one."""
        first = {id(listed) for listed in self.first_lists()}
        return (pair for pair in self.follow_ups() if id(pair[0]) in first)

    def _note_register(self, asked: Asked) -> None:
        name, path = asked.request.resource_name, self._path(asked)
        if not self.rolling and self._registered.get(name) == asked.generation:
            self.needless.append(asked)
        if is_listening(path):
            self._removed.discard(path)
        elif path in self._removed and not path.exists():
            self.unmade.append(asked)
        else:
            self.silent.append(asked)

    def _path(self, asked: Asked) -> Path:
        return self._socket_dir / asked.request.endpoint.lstrip("/")
