"""What is in use of each physical GPU, by what the ledger knows of all resources; pure."""

from collections.abc import Iterable, Mapping

from deviceplugin.core.policies.layout import WHOLE, Layout
from deviceplugin.model import AdvertisedID, DeviceID, ResourceName


def loads_of(
    held: Mapping[ResourceName, Iterable[AdvertisedID]], layouts: Mapping[ResourceName, Layout]
) -> Mapping[DeviceID, int]:
    """Billionths of each GPU that are in use, at most the whole; ids that are not listed any more
    are left out."""
    loads: dict[DeviceID, int] = {}
    for name, ids in held.items():
        layout = layouts.get(name)
        if layout is None:
            continue
        for at in (layout.position[i] for i in ids if i in layout.position):
            gpu = layout.gpus[at]
            loads[gpu] = min(WHOLE, loads.get(gpu, 0) + layout.share[at])
    return loads
