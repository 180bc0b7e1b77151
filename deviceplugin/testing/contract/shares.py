"""What holds of limits of shares and of readings."""

from collections.abc import Iterator, Mapping, Sequence

from deviceplugin.errors import AllocationError
from deviceplugin.model import ContainerEdits, Device, Share
from deviceplugin.vendor import Grant, Reading, Readings, ShareLimits

COUNT = 4  # shares of a device that is shared here


def share_problems(
    vendor: ShareLimits, devices: Sequence[Device], variables: tuple[str, ...]
) -> Iterator[str]:
    """What is wrong with what a container with a share of each device gets, with and without the
    variables that a rule may name."""
    for named in dict.fromkeys(((), variables)):
        for grant in (_grant(device, named) for device in devices):
            try:
                edits = vendor.share_edits([grant])
            except AllocationError:
                continue  # a limit that cannot be set
            if not isinstance(edits, ContainerEdits):
                yield f"share_edits() gives {type(edits).__name__}, not ContainerEdits"
            elif edits != vendor.share_edits([grant]):
                yield f"{grant.device.id}: share_edits() differs from call to call"


def _grant(device: Device, variables: tuple[str, ...]) -> Grant:
    memory = device.memory_bytes
    return Grant(
        device=device,
        share=Share(count=COUNT, variables=variables),
        count=1,
        memory_bytes=None if memory is None else memory // COUNT,
        percent=100 // COUNT,
    )


def reading_problems(vendor: Readings, devices: Sequence[Device]) -> Iterator[str]:
    """What is wrong with the readings of all whole devices."""
    whole = [device for device in devices if device.parent is None]
    found = vendor.readings(whole)
    if not isinstance(found, Mapping):
        yield f"readings() gives {type(found).__name__}, not a mapping"
        return
    ids = {device.id for device in whole}
    for device, reading in found.items():
        if device not in ids:
            yield f"readings(): {device!r} is not a whole device of this vendor"
        if not isinstance(reading, Reading):
            yield f"readings(): {type(reading).__name__} is not a Reading"
