"""A preferred allocation among tens of thousands of shares, on the bytes of the question; pure.

Reading every id takes most of the time of an answer. Which GPU is chosen depends on how many of its
ids are free, and those can be counted; ids are read of the chosen GPUs alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from deviceplugin.model import AdvertisedID, DeviceID
from deviceplugin.placement.narrow import Shared, picked
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.resources.shares import share_prefix

MOST_DEVICES = 24  # each is one more search through the bytes; beyond, reading all ids is as cheap
MOST_GIVEN = 64
Prefixes = Mapping[DeviceID, str]


def prefer_large(listed: Shared, asked: LargeQuestion) -> tuple[AdvertisedID, ...] | None:
    """The answer that `narrow` and `prefer` give where every id of the question is listed, None
    where the question has to be read.

    Whatever is asked, an answer has `size` ids that are listed and available. An id that is not
    listed, which the kubelet may know for a moment longer than we do, may be counted for its GPU.
    """
    must = asked.must_include
    if len(must) >= min(asked.size, MOST_GIVEN) or asked.count < 8 * asked.size:
        return None
    prefixes = _prefixes(listed)
    counted = {d: asked.available.count(prefix.encode()) for d, prefix in prefixes.items()}
    counts = {device: count for device, count in counted.items() if count}
    too_many = any(count > len(listed.ids[device]) for device, count in counts.items())
    if sum(counts.values()) != asked.count or too_many:
        return None
    return _answer(listed, asked, counts, prefixes)


def _prefixes(listed: Shared) -> Prefixes:
    """What the ids of each device begin with; nothing where there are too many devices, or one
    that is not shared."""
    if len(listed.ids) > MOST_DEVICES or None in listed.share.values():
        return {}
    return {d: share_prefix(d, share) for d, share in listed.share.items() if share}


def _answer(
    listed: Shared,
    asked: LargeQuestion,
    counts: Mapping[DeviceID, int],
    prefixes: Prefixes,
) -> tuple[AdvertisedID, ...] | None:
    must = asked.must_include
    given = {d: {i for i in must if i.startswith(prefix)} for d, prefix in prefixes.items()}
    held = {device: len(ids) for device, ids in given.items() if ids}
    free = {device: count - held.get(device, 0) for device, count in counts.items()}
    picks = picked(listed, free, held, asked.size - len(must))
    answer: set[AdvertisedID] = set()
    for device in {**held, **picks}:
        there = _available(listed.ids[device], asked.available, prefixes[device])
        own = given[device]
        if own and not own.issubset(there := list(there)):
            return None
        others = (i for i in there if i not in must)
        answer.update(own, islice(others, picks.get(device, 0)))
    return tuple(sorted(answer)) if len(answer) == asked.size else None


def _available(
    ids: Sequence[AdvertisedID], available: bytes, prefix: str
) -> Iterable[AdvertisedID]:
    """Those of a device's ids that are available, in their order."""
    found = re.findall(re.escape(prefix.encode()) + rb"(\d+)(?=\n|\Z)", available)
    numbers = frozenset(found)
    return (i for i in ids if i[len(prefix) :].encode() in numbers)
