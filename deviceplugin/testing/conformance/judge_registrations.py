"""What all Registers of a run say about the plugin. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import grpc

from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Finding, failed, judged
from deviceplugin.testing.happenings import Asked
from deviceplugin.testing.names import is_extended_resource_name
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.testing.registration import VERSION, Registration

DEADLINE_S = 12.0
ON_THE_WAY_S = 0.5  # of a deadline may be spent before the request is read; stretched, half of it


def judge_registrations(
    record: Record, accepted: Sequence[Registration], settings: Settings
) -> Iterator[Finding]:
    """Findings about lines 1, 2, 3, 6, 7, 13 and 20; none without a Register."""
    asked = record.asked
    if not asked:
        return
    count = f"{len(asked)} Registers"
    names = sorted({one.request.resource_name for one in asked})
    least_s = DEADLINE_S - min(settings.limit(ON_THE_WAY_S), DEADLINE_S / 2)
    yield judged(3, _bad_requests(asked, least_s), f"{count}, {_deadlines(asked)}")
    yield judged(6, _bad_names(names), ", ".join(names))
    yield judged(
        1, _silent(record, record.silent), f"the socket accepted when Register came, {count}"
    )
    yield from (failed(11, f"{text}; it was removed") for text in _silent(record, record.unmade))
    mute = list(_mute(record))
    if accepted or mute:
        yield judged(2, mute, f"answered within Register, {len(accepted)} times")
    if accepted:
        yield judged(7, _different(accepted), "the same in RegisterRequest and in the answer")
        yield judged(13, _doubled(record), f"never two streams of one, {len(record.opened)} opened")
        yield judged(13, _needless(record), "none without a reason")
        yield _shared_sockets(accepted)


def _bad_requests(asked: Sequence[Asked], least_s: float) -> Iterator[str]:
    for one in asked:
        name, request = one.request.resource_name, one.request
        if request.version != VERSION:
            yield f"{name}: version {request.version!r}"
        if request.endpoint.startswith("/"):
            yield f"{name}: endpoint {request.endpoint!r} is absolute"
        if one.remaining_s is not None and one.remaining_s < least_s:
            yield f"{name}: a deadline of {one.remaining_s:.1f} s"


def _deadlines(asked: Sequence[Asked]) -> str:
    left = [one.remaining_s for one in asked if one.remaining_s is not None]
    return f"deadline {min(left):.1f} s" if left else "without a deadline"


def _bad_names(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not is_extended_resource_name(name):
            yield f"{name!r} is not an extended resource name"


def _silent(record: Record, registers: Sequence[Asked]) -> Iterator[str]:
    for one in registers:
        if record.is_of_the_dying(one):
            continue
        if not one.request.endpoint.startswith("/"):  # that is another line's
            name, endpoint = one.request.resource_name, one.request.endpoint
            yield f"{name}: nobody accepts on {endpoint} when Register comes"


def _mute(record: Record) -> Iterator[str]:
    for one in record.refused:
        error = one.error
        if isinstance(error, RpcError) and error.code is not grpc.StatusCode.CANCELLED:
            yield f"{one.resource}: GetDevicePluginOptions within Register: {error}"


def _different(accepted: Sequence[Registration]) -> Iterator[str]:
    for one in accepted:
        if one.announced != one.options:
            yield f"{one.resource}: announced {one.announced}, answered {one.options}"


def _doubled(record: Record) -> Iterator[str]:
    for one in record.doubled:
        yield f"{one.resource}: {one.live} streams at once after a Register"


def _needless(record: Record) -> Iterator[str]:
    names = [one.request.resource_name for one in record.needless]
    for name in sorted(set(names)):
        yield f"{name}: {names.count(name)} Registers without a reason, the kubelet being the same"


def _shared_sockets(accepted: Sequence[Registration]) -> Finding:
    names: dict[str, set[str]] = defaultdict(set)
    for one in accepted:
        names[one.endpoint].add(one.resource)
    shared = (f"{path}: {sorted(of)}" for path, of in sorted(names.items()) if len(of) > 1)
    return judged(20, shared, f"{len(names)} sockets")
