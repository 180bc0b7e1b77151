"""Whether a device's failure reached resources that have nothing of that device."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from deviceplugin.testing.conformance.cdi_specs import described
from deviceplugin.testing.conformance.judge_answers import Answer, cdi_names
from deviceplugin.testing.conformance.session import Session

Failed: TypeAlias = tuple[str, str]  # resource and id


def spread(
    worse: Sequence[Failed], before: Mapping[str, Mapping[str, str]], session: Session
) -> Iterator[str]:
    """The resources touched by a failure that is not theirs.

    With --breaks the person has said whose it is. Without, a resource is touched that lost all of
    its several devices, where they have no host path, CDI name or variable in common with what
    failed elsewhere: a GPU that fails takes its own partitions with it, another resource.
    """
    lost: dict[str, list[str]] = defaultdict(list)
    for name, device in worse:
        lost[name].append(device)
    if breaks := session.settings.breaks:
        for name in sorted(lost.keys() - set(breaks)):
            yield f"{name}: {len(lost[name])} devices failed too, and --breaks does not name it"
        return
    things = _things(worse, session)
    for name, ids in sorted(lost.items()):
        others = [other for other in lost if other != name and things[other]]
        is_apart = others and not any(things[name] & things[other] for other in others)
        if things[name] and is_apart and 1 < len(ids) == len(before[name]):
            yield (
                f"{name}: all {len(ids)} devices failed with {lost[others[0]][:3]} of {others[0]}"
                " and have nothing in common with it; if they have, say so by --breaks"
            )


def _things(worse: Iterable[Failed], session: Session) -> dict[str, set[str]]:
    """What the answers for the failed devices of each resource name, without that which devices
    that are well have too."""
    failed, well = set(worse), set[str]()
    specs = described(session.settings.cdi_dir) if session.settings.cdi_dir else {}
    things: dict[str, set[str]] = defaultdict(set)
    for holder, holding in session.stub.manager.held.items():
        named = set(_named(holding.answer, specs))
        if failed & {(holder.resource, device) for device in holding.ids}:
            things[holder.resource] |= named
        else:
            well |= named
    return defaultdict(set, {name: named - well for name, named in things.items()})


def _named(answer: Answer, specs: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for name in cdi_names(answer):
        yield name
        yield from specs.get(name, ())
    yield from (node.host_path for node in answer.devices)
    yield from (mount.host_path for mount in answer.mounts)
    for key, value in answer.envs.items():
        yield from (f"{key}={part}" for part in value.split(","))
