"""The one shape of everything that the daemon is put together from.

A capability is plugged in by a Part in the daemon's tuple; what it does not have it leaves out. The
shapes of what a part gives stand here too, so that no capability needs to know who asks for it.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

ConfigT_contra = TypeVar("ConfigT_contra", contravariant=True)

Once = Callable[[], Awaitable[None]]
Reply = dict[str, Any]


class Sectioned(Protocol):
    """A configuration, as a part sees it that needs nothing but sections."""

    @property
    def sections(self) -> Mapping[str, Any]:
        """Each section by its name, decoded by its schema."""


class Series(Protocol):
    """All series of one name, as a scrape needs them."""

    name: str

    def lines(self) -> Iterator[str]:
        """The series in Prometheus' text format, without line ends."""


class Collector(Protocol):
    """A source of series."""

    def collect(self) -> Iterable[Series]:
        """Its series as they are now; called on another thread than the loop's."""


class Response(NamedTuple):
    """What a GET of a page gives: a status line's end (`200 OK`), a media type and the body."""

    status: str
    content_type: str
    text: str


Page = Callable[[], Response]


class Operation(Struct, frozen=True):
    """What an operator may ask for on the control socket.

    `request` is the msgspec Struct that a request is decoded as; it has the field `operation`.
    `answer` is given that value, on the loop; a ControlError is the operator's answer.
    """

    request: type[Any]
    answer: Callable[[Any], Awaitable[Reply]]


class Part(Generic[ConfigT_contra]):
    """Something that the daemon starts, asks, reloads and ends; by default nothing at all.

    Made on the loop. Parts are started and reloaded in the order of the daemon's tuple and end in
    the reverse order.
    """

    def serving(self) -> AbstractAsyncContextManager[None]:
        """What holds from before the part's tasks start until they have ended."""
        return nullcontext()

    def tasks(self) -> Mapping[str, Once]:
        """What runs for as long as the daemon serves, by name; what fails is tried again."""
        return MappingProxyType({})

    def check(self, config: ConfigT_contra) -> None:
        """Raise ConfigError where the part cannot serve by `config`; changes nothing."""

    async def use(self, config: ConfigT_contra) -> None:
        """Serve by `config`, which every part has checked, from now on: a reload.

        Parts whose `use` waits for nothing change in one step on the loop with the parts beside
        them.
        """

    def collectors(self) -> Mapping[str, Collector]:
        """Sources of /metrics, by the name that `deviceplugin_collector_success` gives them."""
        return MappingProxyType({})

    def operations(self) -> Mapping[str, Operation]:
        """Operations of the control socket, by name."""
        return MappingProxyType({})

    def routes(self) -> Mapping[str, Page]:
        """Pages of the HTTP endpoint, by path; each is called on a thread of its own."""
        return MappingProxyType({})

    def problem(self) -> str:
        """Why the daemon is not ready, empty when it is; from any thread."""
        return ""

    def remark(self) -> str:
        """What who asks a daemon that is ready should know, empty for nothing; from any thread."""
        return ""
