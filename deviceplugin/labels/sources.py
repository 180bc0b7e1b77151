"""What the labels are made from."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from deviceplugin.model import Inventory
from deviceplugin.resources.plan import Resources
from deviceplugin.vendor import Vendor


class Sources(Struct, frozen=True, kw_only=True):
    """Where the labels come from; `ready` says whether every vendor has looked once, `now` gives
    Unix seconds."""

    inventory: Callable[[], Inventory]
    resources: Callable[[], Resources]
    vendors: Callable[[], Sequence[Vendor]]
    ready: Callable[[], bool]
    now: Callable[[], float]
