"""A question about tens of thousands of ids, kept as the bytes in which it came."""

from msgspec import Struct

from deviceplugin.model import AdvertisedID


class LargeQuestion(Struct, frozen=True, kw_only=True):
    """Which `size` of the available ids, `must_include` among them, a container should get.

    In `available` each of the `count` ids stands once, before a line feed or the end; what is
    between them is in no id.
    """

    available: bytes
    count: int
    must_include: frozenset[AdvertisedID]
    size: int
