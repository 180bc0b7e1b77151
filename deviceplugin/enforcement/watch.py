"""Who uses more of a device than was granted, by what processes have; pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from deviceplugin.enforcement.held import Granted, memory_of
from deviceplugin.model import DeviceID
from deviceplugin.resources.entries import Holder
from deviceplugin.telemetry.model import ProcessUse

At = tuple[Holder, DeviceID]


class Use(Struct, frozen=True, kw_only=True, gc=False):
    """What a container was granted of a device's memory, and what its processes have."""

    granted_bytes: int
    used_bytes: int

    def is_over(self, tolerance_percent: int) -> bool:
        """Whether it has more than was granted, by more than is let pass."""
        return self.used_bytes * 100 > self.granted_bytes * (100 + tolerance_percent)


def uses_of(granted: Granted, processes: Iterable[ProcessUse]) -> Mapping[At, Use]:
    """Each container with slices and each device of it, sorted; one of whose processes the memory
    is unknown is left out: that is no use of 0."""
    used: dict[At, int] = {}
    unknown: set[At] = set()
    for process in processes:
        for holder in _owners(process, granted):
            at = (holder, process.device)
            if process.memory_bytes is None:
                unknown.add(at)
            used[at] = used.get(at, 0) + (process.memory_bytes or 0)
    return {
        (holder, device): Use(granted_bytes=size, used_bytes=used.get((holder, device), 0))
        for holder, grants in granted.items()
        for device, size in sorted(memory_of(grants).items())
        if (holder, device) not in unknown
    }


def _owners(process: ProcessUse, granted: Granted) -> Iterable[Holder]:
    """The container a process runs in. Where only its pod is known, the only one of it that has
    slices of the device: of several, nobody can say which."""
    owner = process.owner
    if owner is None:
        return ()
    if owner.container:
        return (Holder(namespace=owner.namespace, pod=owner.pod, container=owner.container),)
    found = [
        holder
        for holder, grants in granted.items()
        if (holder.namespace, holder.pod) == (owner.namespace, owner.pod)
        and any(grant.device.id == process.device for grant in grants)
    ]
    return found if len(found) == 1 else ()


def breaches(uses: Mapping[At, Use], tolerance_percent: int) -> Mapping[At, Use]:
    """Those that use more than was granted."""
    return {at: use for at, use in uses.items() if use.is_over(tolerance_percent)}
