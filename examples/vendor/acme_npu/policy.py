"""A placement policy of one's own: NPUs that are neighbours on the ring, wherever there are any."""

from collections.abc import Mapping, Set

from deviceplugin.api import AdvertisedID, Context, DeviceID, Preference, Resource


def ring(resource: Resource, preference: Preference, context: Context) -> tuple[AdvertisedID, ...]:
    """The ids of the first run of neighbours that is long enough, then all others.

    What must be included, and what is available, the daemon sees to by itself: a policy only
    says in which order it wants ids.
    """
    layout = context.layout(resource)
    free = {
        gpu: [i for i in ids if i in preference.available]
        for gpu, ids in zip(layout.gpus, layout.ids, strict=True)
    }
    devices = context.topology.devices
    links = {gpu: {link.peer for link in devices[gpu].links} for gpu in free if gpu in devices}
    left = {gpu for gpu in free if free[gpu]}
    for start in (gpu for gpu in layout.gpus if gpu in left):
        run = _run(start, links, left)[: preference.size]
        if len(run) == preference.size:
            return tuple(free[gpu][0] for gpu in run)
    return tuple(i for gpu in layout.gpus for i in free[gpu])


def _run(
    start: DeviceID, links: Mapping[DeviceID, Set[DeviceID]], free: Set[DeviceID]
) -> list[DeviceID]:
    """Free NPUs one after the other along the ring."""
    run = [start]
    while following := sorted((links.get(run[-1], set()) & free) - set(run)):
        run.append(following[0])
    return run
