"""What all lists of a run say about the plugin. Pure."""

from collections.abc import Iterable, Iterator, Sequence

import grpc

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, skipped, timed
from deviceplugin.testing.devicemanager import HEALTHY, Kind, ListFault
from deviceplugin.testing.happenings import Listed
from deviceplugin.testing.plugin_client import MESSAGE_LIMIT_BYTES

FIRST_LIST_S = 0.1
FOLLOWS_S = 10.0
ID_MAX = 63
LINE_OF = {
    Kind.DUPLICATE: 23,
    Kind.EMPTY_TOPOLOGY: 33,
    Kind.NEGATIVE_NODE: 33,
    Kind.HEALTH_WORD: 22,
    Kind.MIXED_TOPOLOGY: 33,
    Kind.SHARED: 25,
}


def judge_lists(
    record: Record, faults: Sequence[ListFault], settings: Settings
) -> Iterator[Finding]:
    """Findings about lines 21 to 26, 30, 32 to 34 and 59; none without a list."""
    yield from _broken_streams(record)
    listed = record.listed
    if not listed:
        return
    first = [one.waited_s for one in record.first_lists()]
    yield timed(21, "first list after the call", first, settings.limit(FIRST_LIST_S))
    yield judged(21, _incomplete(record), f"{len(first)} first lists, complete")
    yield from _by_kind(faults, listed)
    ids = {device.ID for one in listed for device in one.message.devices}
    yield judged(26, map(_id_problem, filter(_id_problem, ids)), f"{len(ids)} ids")
    yield judged(30, _repeated(record), f"{len(listed)} lists, none like the one before it")
    largest = max(one.message.ByteSize() for one in listed)
    too_large = [f"a list of {largest} bytes"] if largest >= MESSAGE_LIMIT_BYTES else []
    yield judged(32, too_large, f"the largest list has {largest} bytes")
    yield _several_nodes(device for one in listed for device in one.message.devices)


def _broken_streams(record: Record) -> Iterator[Finding]:
    for one in record.ended:
        if "failed to unmarshal" in one.reason:
            yield failed(59, f"{one.resource}: the stream ended: {one.reason}")
        if grpc.StatusCode.RESOURCE_EXHAUSTED.name.replace("_", "") in one.reason.upper():
            yield failed(32, f"{one.resource}: the stream ended: {one.reason}")


def _by_kind(faults: Sequence[ListFault], listed: Sequence[Listed]) -> Iterator[Finding]:
    resources = {one.resource for one in listed}
    has_topology = any(d.HasField("topology") for one in listed for d in one.message.devices)
    seen = {
        22: f"{len(listed)} lists",
        23: f"{len(listed)} lists",
        25: f"{len(resources)} resources",
        33: "topology given" if has_topology else "no list has a topology",
    }
    for line, text in seen.items():
        texts = [str(fault) for fault in faults if LINE_OF[fault.kind] == line]
        yield judged(line, texts, text)


def _incomplete(record: Record) -> Iterator[str]:
    """First lists that were soon followed by another, although nothing had changed: before the
    suite did anything no difference has a reason, later none of the ids has."""
    for first, second in record.second_lists():
        gap_s = second.at_s - first.at_s
        before, after = (_ids(one.message) for one in (first, second))
        is_quiet = record.touched_at_s is None or second.at_s < record.touched_at_s
        if gap_s > FOLLOWS_S or _content(first.message) == _content(second.message):
            continue
        if is_quiet or after - before:
            was, became = (_counted(one.message) for one in (first, second))
            yield f"{first.resource}: {was} first, {became} after {gap_s:.2f} s"


def _ids(message: pluginapi.ListAndWatchResponse) -> set[str]:
    return {device.ID for device in message.devices}


def _counted(message: pluginapi.ListAndWatchResponse) -> str:
    healthy = sum(device.health == HEALTHY for device in message.devices)
    return f"{len(message.devices)} devices, {healthy} Healthy,"


def _id_problem(name: str) -> str:
    if not 1 <= len(name) <= ID_MAX:
        return f"id {name[:80]!r} has {len(name)} characters"
    if not all("!" <= letter <= "~" for letter in name):
        return f"id {name!r} has characters other than visible ASCII"
    return ""


def _repeated(record: Record) -> Iterator[str]:
    for before, after in record.follow_ups():
        if _content(before.message) == _content(after.message):
            gap_s = after.at_s - before.at_s
            yield f"{after.resource}: an unchanged list again after {gap_s:.2f} s"


def _content(message: pluginapi.ListAndWatchResponse) -> frozenset[bytes]:
    """The order of a list means nothing."""
    return frozenset(device.SerializeToString(deterministic=True) for device in message.devices)


def _several_nodes(devices: Iterable[pluginapi.Device]) -> Finding:
    many = [d for d in devices if len(d.topology.nodes) > 1]
    if not many:
        return skipped(34, "no device has several NUMA nodes")
    twice = [
        f"{device.ID}: NUMA nodes {nodes}"
        for device in many
        if len(set(nodes := [node.ID for node in device.topology.nodes])) < len(nodes)
    ]
    return judged(34, twice, f"{len({device.ID for device in many})} devices with several nodes")
