"""A share of a GPU's compute: compute units that no other container of the GPU is told; pure.

The n-th slice has the n-th run of units, so nothing needs to be remembered: two containers never
have one slice, and so never one unit. ROCr reads HSA_CU_MASK (`<GPU>:<list of units>`) when a
process starts, and KFD keeps its queues to these units. A program can unset the variable first.
"""

from collections.abc import Iterable, Iterator, Sequence

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import ContainerEdits, Device, Share, frozen
from deviceplugin.vendor import ComputeLimit, Grant, Sections

VARIABLE = "HSA_CU_MASK"
# Two units of these are one work group processor, and KFD refuses a mask that splits one
# (kfd_process_queue_manager.c, pqm_update_mqd: "ASICs that have WGPs must enforce pairwise").
_PAIRED = ("gfx10", "gfx11", "gfx12")


def compute_limit(_: Sections) -> ComputeLimit:
    """The same whatever the configuration says."""
    return why_unlimited


def why_unlimited(device: Device, share: Share) -> str:
    """Why a share has no compute units of its own, "" where it has."""
    if _units(device) is None:
        return f"the number of compute units of {device.id} is unknown"
    if not units_of_slice(device, share):
        return f"{share.compute_percent}% of {device.id} is less than the smallest mask"
    return ""


def units_of_slice(device: Device, share: Share) -> int:
    """How many compute units come with a slice, rounded down to what a mask can have."""
    units = (_units(device) or 0) * (share.compute_percent or 0) // 100
    paired = (device.architecture or "").startswith(_PAIRED)
    return units // 2 * 2 if paired else units


def mask_edits(grants: Sequence[Grant]) -> ContainerEdits:
    """The variable of a container with these slices; nothing where no compute comes with them or
    the units are unknown.

    GPUs are numbered as ROCr numbers those of the container: these, by PCI address. Raises
    AllocationError for a share of no unit, which would be read as no mask.
    """
    masks = []
    for number, grant in enumerate(grants):
        if grant.share.compute_percent is None or _units(grant.device) is None:
            continue
        each = units_of_slice(grant.device, grant.share)
        if not each:
            text = why_unlimited(grant.device, grant.share)
            raise AllocationError(Refusal.LIMIT, f"{grant.device.resource}: {text}")
        masks.append(f"{number}:{_ranges(grant.numbers, each)}")
    return ContainerEdits(env=frozen({VARIABLE: ";".join(masks)} if masks else {}))


def _units(device: Device) -> int | None:
    """As the last look found them in KFD."""
    text = device.attributes.get("compute_units", "")
    return int(text) if text.isdecimal() and int(text) else None


def _ranges(numbers: Iterable[int], each: int) -> str:
    return ",".join(f"{first * each}-{(last + 1) * each - 1}" for first, last in _runs(numbers))


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of numbers that follow on each other."""
    run: tuple[int, int] | None = None
    for number in sorted(numbers):
        if run is not None and number == run[1] + 1:
            run = (run[0], number)
            continue
        if run is not None:
            yield run
        run = (number, number)
    if run is not None:
        yield run
