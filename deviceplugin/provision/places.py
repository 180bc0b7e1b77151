"""Where MIG instances go: as many of the wanted ones as are still missing, in free places; pure.

A choice of places leaves the largest profile possible that can still be made beside it.
"""

from collections.abc import Iterable, Iterator, Sequence

from deviceplugin.vendor.partitions import Profile

Place = tuple[Profile, int]


def span(start: int, size: int) -> frozenset[int]:
    """The slices that an instance takes."""
    return frozenset(range(start, start + size))


def places_for(
    wanted: Sequence[Profile],
    taken: frozenset[int],
    profiles: Sequence[Profile],
    used: Iterable[str] = (),
) -> tuple[Place, ...] | None:
    """A place for each of `wanted`, None where they do not all fit.

    `taken` are slices that others have, `used` the profiles of what is there already.
    """
    counts = list(used)
    for profile in wanted:
        counts.append(profile.name)
        if counts.count(profile.name) > profile.instances:
            return None
    order = sorted(wanted, key=lambda profile: (-profile.size, profile.name))
    best: tuple[tuple[int, ...], tuple[Place, ...]] | None = None
    for places in _choices(order, taken, None):
        found = (_worth(places, taken, profiles), places)
        if best is None or found[0] > best[0]:
            best = found
    return None if best is None else best[1]


def _choices(
    wanted: Sequence[Profile], taken: frozenset[int], last: Place | None
) -> Iterator[tuple[Place, ...]]:
    """Every way to place them; of equal profiles the starts rise, so that none comes twice."""
    if not wanted:
        yield ()
        return
    profile, *others = wanted
    for start in sorted(profile.starts):
        if last is not None and last[0] == profile and start <= last[1]:
            continue
        slices = span(start, profile.size)
        if taken.isdisjoint(slices):
            place = (profile, start)
            for rest in _choices(others, taken | slices, place):
                yield (place, *rest)


def _worth(
    places: Sequence[Place], taken: frozenset[int], profiles: Sequence[Profile]
) -> tuple[int, ...]:
    """How many of each profile could still be made, largest first; then later places first."""
    slices = taken.union(*(span(start, profile.size) for profile, start in places))
    largest = sorted(profiles, key=lambda profile: (-profile.size, profile.name))
    room = (_room(profile, slices) for profile in largest)
    return (*room, sum(start for _, start in places))


def _room(profile: Profile, taken: frozenset[int]) -> int:
    count = 0
    for start in sorted(profile.starts):
        slices = span(start, profile.size)
        if taken.isdisjoint(slices):
            taken |= slices
            count += 1
    return min(count, profile.instances)
