"""Objects of a kind as the API server lists them; one that cannot be read is left out, and the
others stay."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct, field

from deviceplugin.kubernetes.api import JSON, MAX_ANSWER_BYTES, TooLargeError
from deviceplugin.scheduler.kinds import Watched
from deviceplugin.scheduler.objects import Meta

# Names and versions alone: what is left of an object that is too large to be read.
NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
T = TypeVar("T")


class Reads(Protocol):
    """Who is asked."""

    def content(self, path: str, accept: str = JSON) -> bytes:
        """What GET answers; raises ApiError."""
        ...

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch; raises ApiError."""
        ...


class UnreadableError(ValueError):
    """An object is not as its kind is; `name` is its own."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class Listed(Struct, frozen=True, kw_only=True):
    """All objects of a kind, the version of the list, and why others were left out, by name."""

    found: Sequence[Any]
    version: str
    left_out: Mapping[str, str]


class _ListMeta(Struct):
    version: str = field(default="", name="resourceVersion")
    following: str | None = field(default=None, name="continue")


class _Page(Struct, Generic[T]):
    metadata: _ListMeta = field(default_factory=_ListMeta)
    items: list[T] | None = None


class Named(Struct):
    """What an object is called, and its version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    version: str = field(default="", name="resourceVersion")

    def __str__(self) -> str:
        """With the namespace of one that has any."""
        whole = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return whole if self.name else "(one without a name)"


class _OfOne(Struct):
    metadata: Named


class Items:
    """Decodes objects of a kind."""

    def __init__(self, what: Watched) -> None:
        self._what = what
        self._one = msgspec.json.Decoder(what.kind)
        page: Any = _Page[what.kind]  # type: ignore[name-defined]  # a type made here
        self._page = msgspec.json.Decoder(page)

    def page(self, content: bytes, left_out: dict[str, str]) -> tuple[list[Any], _ListMeta]:
        """What is on it; raises ValueError for what is no list."""
        try:
            page = self._page.decode(content)
            return [self._what.small(one) for one in page.items or []], page.metadata
        except ValueError:  # which one it is costs time: all of them are read once more
            return self._one_by_one(content, left_out)

    def _one_by_one(self, content: bytes, left_out: dict[str, str]) -> tuple[list[Any], _ListMeta]:
        page, found = _raw.decode(content), []
        for item in page.items or []:
            try:
                found.append(self.one(item))
            except UnreadableError as error:
                left_out[error.name] = str(error)
        return found, page.metadata

    def one(self, item: Raw, *, gone: bool = False) -> Any:
        """What is kept of it; of one that is gone its name is enough. Raises UnreadableError."""
        try:
            return self._what.small(self._one.decode(item))
        except (ValueError, RecursionError) as error:
            named = named_of(item)
            if gone and named.name:
                meta = Meta(name=named.name, namespace=named.namespace, uid=named.uid)
                return self._what.small(self._what.kind(metadata=meta))
            raise UnreadableError(str(named), str(error)) from error


def named_of(item: Raw) -> Named:
    """As far as it can be read."""
    try:
        return _of_one.decode(item).metadata
    except (ValueError, RecursionError):
        return Named()


class Listing:
    """Lists a kind by pages. One that is too large is asked for again by halves, so that one large
    object costs itself alone."""

    def __init__(self, api: Reads, what: Watched, items: Items) -> None:
        self._api, self._what, self._items = api, what, items

    def all(self) -> Listed:
        """What there is. Raises ApiError, and ValueError for what is no list."""
        found: list[Any] = []  # of our kind
        left_out: dict[str, str] = {}
        limit, following = self._what.page, ""
        while True:
            path = f"{self._what.path}?limit={limit}{following}"
            try:
                content = self._api.content(path)
                items, meta = self._items.page(content, left_out)
                found += items
            except TooLargeError as error:
                if limit > 1:
                    limit //= 2
                    continue
                meta = self._without(path, str(error), left_out)
            else:
                if 2 * len(content) < MAX_ANSWER_BYTES:
                    limit = min(2 * limit, self._what.page)
            if not meta.following:
                return Listed(found=found, version=meta.version, left_out=left_out)
            following = f"&continue={quote(meta.following, safe='')}"

    def _without(self, path: str, reason: str, left_out: dict[str, str]) -> _ListMeta:
        """Where the list goes on after the only object of a page."""
        page = _names.decode(self._api.content(path, NAMES))
        for item in page.items or []:
            left_out[str(item.metadata)] = reason
        return page.metadata


_raw = msgspec.json.Decoder(_Page[Raw])
_names = msgspec.json.Decoder(_Page[_OfOne])
_of_one = msgspec.json.Decoder(_OfOne)
