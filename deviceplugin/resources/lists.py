"""Two lists of a resource compared, which may have tens of thousands of entries; pure."""

from deviceplugin.model import AdvertisedDevice

Entries = tuple[AdvertisedDevice, ...]
Changed = list[tuple[AdvertisedDevice, AdvertisedDevice]]
STEP = 512


def changed_entries(now: Entries, before: Entries) -> Changed | None:
    """The entries that differ from those in their places before, None where the ids are others.

    A step of equal entries, which mostly are the same objects, is passed over in one comparison.
    """
    if len(now) != len(before):
        return None
    changed: Changed = []
    for at in range(0, len(now), STEP):
        ours, theirs = now[at : at + STEP], before[at : at + STEP]
        if ours != theirs:
            pairs = zip(ours, theirs, strict=True)
            changed += [(entry, old) for entry, old in pairs if entry is not old]
    if any(entry.id != old.id for entry, old in changed):
        return None
    return changed
