"""A part of a device's compute that comes with each slice of its memory; pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from deviceplugin.model import Resource, ResourceName, Share
from deviceplugin.resources.build import PlanProblem
from deviceplugin.resources.rules import Offering
from deviceplugin.resources.shares import noun_text, share_of
from deviceplugin.vendor import ComputeLimit

ALL = 100
COOPERATIVE, NONE = "cooperative", "none"
Limits = Mapping[str, ComputeLimit]


class ComputeShare(Struct, frozen=True, kw_only=True):
    """The compute that comes with each slice of a resource, what holds a container to it
    (`cooperative`, `none`), and why nothing does, "" where something does."""

    percent: int
    level: str
    reason: str = ""


def too_much_compute(offering: Offering, share: Share) -> PlanProblem | None:
    """Why a device has not as much compute as its slices are to have, None where it has."""
    percent, device = share.compute_percent, offering.device
    if percent is None or share.count * percent <= ALL or offering.offer.memory is None:
        return None
    most = ALL // share.count
    less = f"compute: {most}% or less, or " if most else ""
    return PlanProblem(
        resource=offering.name,
        reason=f"{noun_text(device)} {device.id} makes {share.count} slices of"
        f" {offering.offer.memory.unit}, each with {percent}% of its compute, which is more than"
        " all of it",
        action=f"write {less}a larger unit: at most {ALL // percent} slices have so much",
    )


def mixed_compute(name: ResourceName, group: Sequence[Offering]) -> PlanProblem | None:
    """That ids of one name would stand for unlike parts of a device, None where they do not."""
    if len({offering.offer.compute_percent for offering in group}) < 2:
        return None
    reason = "its ids would not all stand for the same part of the compute"
    return PlanProblem(resource=name, reason=reason, action="give each compute a name")


def compute_of(resource: Resource, group: Sequence[Offering], limits: Limits) -> ComputeShare:
    """What comes with each slice of a resource whose slices have compute; the weakest of its
    devices decides."""
    percent = group[0].offer.compute_percent or 0
    for offering in group:
        share = share_of(offering.device, offering.offer)
        limit = limits.get(resource.vendor)
        text = "its vendor knows no limit on compute"
        if share is not None and (reason := limit(offering.device, share) if limit else text):
            return ComputeShare(percent=percent, level=NONE, reason=reason)
    return ComputeShare(percent=percent, level=COOPERATIVE)
