"""What advertised ids mean: looked up where they are made, never read out of their text; pure.

An id is made of a device and an offer. Whoever holds an id that no offer makes now, since before
a restart or another configuration, is taken to hold whatever it can mean among the devices that
are there: too much is kept away then, never too little.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.model import Device, DeviceID, ResourceName, Share
from deviceplugin.names import MAX_ID
from deviceplugin.resources.build import PlanProblem, no_slice
from deviceplugin.resources.compute import too_much_compute
from deviceplugin.resources.rules import Offering
from deviceplugin.resources.shares import (
    WHOLE,
    Meaning,
    form_text,
    possible_shares,
    share_of,
    share_prefix,
)
from deviceplugin.resources.usage import Key


class Ids(Struct, frozen=True):
    """The devices that are there, and the form of each that a resource offers."""

    devices: frozenset[DeviceID] = frozenset()
    offered: Mapping[tuple[ResourceName, DeviceID], str] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def meanings(self, key: Key) -> tuple[Meaning, ...]:
        """What a held id stands for: as its resource offers it, else all that it can be.

        An id of no device that is there stands for itself.
        """
        name, advertised = key
        itself = (DeviceID(advertised), WHOLE)
        found = [m for m in (itself, *possible_shares(advertised)) if m[0] in self.devices]
        offered = [m for m in found if self.offered.get((name, m[0])) == m[1]]
        return tuple(offered or found) or (itself,)


def ids_of(offered: Iterable[Offering], devices: Mapping[DeviceID, Device]) -> Ids:
    """The meanings of all ids that offers make of these devices."""
    clear, _ = clear_offerings(offered, devices)
    forms = {
        (offering.name, offering.device.id): form_text(share_of(offering.device, offering.offer))
        for offering in clear
    }
    return Ids(frozenset(devices), MappingProxyType(forms))


def clear_offerings(
    offered: Iterable[Offering], devices: Mapping[DeviceID, Device]
) -> tuple[tuple[Offering, ...], tuple[PlanProblem, ...]]:
    """The offerings that have ids, which can be used and mean one thing, and what is wrong with
    the others.

    A device that is offered whole has its vendor's own id, which is always kept.
    """
    like_shares = {meaning: device for device in devices for meaning in possible_shares(device)}
    clear: list[Offering] = []
    problems: list[PlanProblem] = []
    for offering in offered:
        share = share_of(offering.device, offering.offer)
        problem = share and (
            no_slice(offering, share)
            or too_much_compute(offering, share)
            or _length_problem(offering, share)
            or _clash(offering, share, devices, like_shares)
        )
        if problem:
            problems.append(problem)
        else:
            clear.append(offering)
    return tuple(clear), tuple(problems)


def _length_problem(offering: Offering, share: Share) -> PlanProblem | None:
    device = offering.device.id
    length = len(f"{share_prefix(device, share)}{max(share.count - 1, 0)}")
    if length <= MAX_ID:
        return None
    return PlanProblem(
        resource=offering.name,
        reason=f"the ids of the shares of device {device} would have {length} characters,"
        f" at most {MAX_ID} can be used",
        action="offer the device whole, or let its vendor give it a shorter id",
    )


def _clash(
    offering: Offering,
    share: Share,
    devices: Mapping[DeviceID, Device],
    like_shares: Mapping[Meaning, DeviceID],
) -> PlanProblem | None:
    """Asked of every device that is there, offered or not: a pod may hold it since earlier."""
    device = offering.device.id
    own = (device, form_text(share))
    first = f"{share_prefix(device, share)}0"
    others = [m[0] for m in possible_shares(first) if m != own and m[0] in devices]
    other = like_shares.get(own) or next(iter(others), None)
    if other is None:
        return None
    return PlanProblem(
        resource=offering.name,
        reason=f"an id of the shares of device {device} could also mean device {other}",
        action=f"offer device {device} whole, or let its vendor choose ids that do not end"
        " like those of shares",
    )
