"""The kinds of objects that are watched: where each is listed, and what is kept of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from deviceplugin.scheduler import claims, published

RESOURCES = "/apis/resource.k8s.io/v1"
SLICES = 50  # of a page: one may have 128 devices, and an answer 8 MiB
PAGE = 250  # objects; a page of nodes with many images is some MiB


class Watched(Struct, frozen=True, kw_only=True):
    """A kind of object: where it is listed, as what it is decoded, what is kept of it, how many
    make a page, and whether a cluster may be without it."""

    path: str
    kind: type[Any]
    small: Callable[[Any], Any] = lambda one: one
    page: int = PAGE
    optional: bool = False

    @property
    def name(self) -> str:
        """As the API server calls it, such as `nodes`."""
        return self.path.rpartition("/")[2]


def dra_kinds(drivers: frozenset[str]) -> Sequence[Watched]:
    """Slices, claims and classes; a cluster may be without them."""
    small = partial(claims.small, drivers=drivers)
    slices = Watched(
        path=f"{RESOURCES}/resourceslices",
        kind=published.ResourceSlice,
        small=published.Keeping(drivers).small,
        page=SLICES,
        optional=True,
    )
    return (
        slices,
        Watched(
            path=f"{RESOURCES}/resourceclaims",
            kind=claims.ResourceClaim,
            small=small,
            optional=True,
        ),
        Watched(path=f"{RESOURCES}/deviceclasses", kind=claims.DeviceClass, optional=True),
    )
