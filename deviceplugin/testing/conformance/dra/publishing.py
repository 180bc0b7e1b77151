"""Lines 7 to 19 and 39: what the API server has of the driver, and how it is kept so."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from deviceplugin.testing.conformance.dra.session import Refused, Session
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, passed, skipped
from deviceplugin.testing.dra import Driver

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?")
WIPED_S, DELETED_S, SETTLED_S, QUIET_S = 2.0, 30.0, 10.0, 2.0
SEPARATE_SINCE, TAINTS_BEFORE = 35, 4
TAINTS = "DRADeviceTaints"
FORMS = ("exclude each other", "its taints")  # in the stub's refusals of a form


async def publish(session: Session) -> AsyncIterator[Finding]:
    """What is published, and that it stays so."""
    async with session.running() as driver:
        yield judged(7, _pool_problems(session), f"{len(session.api.slices)} slices")
        yield judged(9, _versions(session), "every version has three numbers")
        yield judged(10, _forms(session), "the form of this release")
        yield judged(18, _unlike(session), "each type alike")
        yield judged(19, _unknown_counters(session), f"{len(session.api.devices)} devices")
        async for finding in _lose(session):
            yield finding
        async for finding in _keep_quiet(session):
            yield finding
        async for finding in _do_without(session, driver):
            yield finding
    order = list(session.api.devices)
    async with session.running():
        same = order == list(session.api.devices)
        yield judged(13, () if same else ["the order changed with a start"], "the same order")
    invalid = [text for text in session.api.refusals if "invalid" in text]
    yield judged(8, invalid, f"{len(session.api.writes())} writes")


def _specs(session: Session) -> list[Any]:
    return [one["spec"] for one in session.api.slices.values()]


def _pool_problems(session: Session) -> Iterator[str]:
    pools = {(spec["driver"], spec["pool"]["name"]) for spec in _specs(session)}
    if len(pools) != 1 or next(iter(pools))[1] != session.api.node:
        yield f"pools {sorted(pools)} of node {session.api.node}"
    if len({spec["pool"]["generation"] for spec in _specs(session)}) != 1:
        yield "slices of several generations"
    counts = {spec["pool"]["resourceSliceCount"] for spec in _specs(session)}
    if counts != {len(session.api.slices)}:
        yield f"{len(session.api.slices)} slices say they are {sorted(counts)}"
    for name, one in session.api.slices.items():
        owners = one["metadata"].get("ownerReferences", ())
        if [(o["kind"], o["uid"]) for o in owners] != [("Node", f"uid-of-{session.api.node}")]:
            yield f"{name} does not belong to the Node"


def _versions(session: Session) -> Iterator[str]:
    for name, device in session.api.devices.items():
        for key, value in device.get("attributes", {}).items():
            if "version" in value and not _VERSION.fullmatch(value["version"]):
                yield f"{name}: {key} is {value['version']!r}"


def _forms(session: Session) -> Iterator[str]:
    """Also what the server refused: a driver may have tried another form after it."""
    yield from (text for text in session.api.refusals if any(form in text for form in FORMS))
    separate = session.api.minor >= SEPARATE_SINCE
    for spec in _specs(session):
        if separate and spec.get("devices") and spec.get("sharedCounters"):
            yield "devices and shared counters in one slice"
        for device in () if separate else spec.get("devices", ()):
            if len(device.get("taints", ())) > TAINTS_BEFORE:
                yield f"{device['name']} has more than {TAINTS_BEFORE} taints"


def _unlike(session: Session) -> Iterator[str]:
    seen: dict[str, tuple[str, set[str]]] = {}
    for name, device in session.api.devices.items():
        kind = str(device.get("attributes", {}).get("type", {}).get("string", ""))
        keys = {*device.get("attributes", ()), *device.get("capacity", ())}
        first, known = seen.setdefault(kind, (name, keys))
        if keys != known:
            yield f"{first} and {name} differ in {sorted(keys ^ known)}"


def _unknown_counters(session: Session) -> Iterator[str]:
    specs = _specs(session)
    names = [device["name"] for spec in specs for device in spec.get("devices") or ()]
    if len(set(names)) < len(names):
        yield "a name is there twice"
    known = {
        (one["name"], counter)
        for spec in specs
        for one in spec.get("sharedCounters") or ()
        for counter in one["counters"]
    }
    for name, device in session.api.devices.items():
        for consumed in device.get("consumesCounters", ()):
            for counter in consumed["counters"]:
                if (consumed["counterSet"], counter) not in known:
                    yield f"{name} consumes {counter} of {consumed['counterSet']}"


async def _lose(session: Session) -> AsyncIterator[Finding]:
    """Wiped by a kubelet that starts, deleted by a person."""
    count = len(session.api.devices)
    async with session.registered():
        session.api.wipe()
        back = await session.wait(lambda: len(session.api.devices) == count, WIPED_S)
    yield judged(12, () if back else ["not back after a wipe"], "back after a wipe")
    await session.need(lambda: len(session.api.devices) == count, "slices after a wipe")
    session.api.delete(next(iter(session.api.slices)))
    back = await session.wait(lambda: len(session.api.devices) == count, DELETED_S + SETTLED_S)
    yield judged(12, () if back else ["not back after it was deleted"], "back after a deletion")


async def _keep_quiet(session: Session) -> AsyncIterator[Finding]:
    await session.rest(QUIET_S)
    before = session.api.writes()
    await session.rest(QUIET_S)
    after = session.api.writes()[len(before) :]
    yield judged(13, [f"wrote {after}"] if after else (), f"no write in {QUIET_S:g} s")


async def _do_without(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    """The server away, and a conflict."""
    claim, count = session.claim(session.names[:1]), len(session.api.devices)
    await session.prepare(driver, claim)
    session.api.away = True
    answer = await session.prepare(driver, claim)
    session.api.wipe()
    await session.rest(1.0)
    session.api.away = False
    back = await session.wait(lambda: len(session.api.devices) == count, DELETED_S + SETTLED_S)
    problems = [f"refused: {answer.text}"] if isinstance(answer, Refused) else []
    problems += [] if back else ["not published when it was back"]
    yield judged(15, problems, "answered and published again")
    await session.unprepare(driver, claim)
    session.api.conflicts = 1
    session.api.wipe()
    async with session.registered():
        back = await session.wait(lambda: len(session.api.devices) == count, DELETED_S)
    yield judged(16, () if back else ["not published after a conflict"], "published after one")
    session.api.conflicts = 0


async def break_device(session: Session) -> AsyncIterator[Finding]:
    """Lines 11, 14, 17, 39: a device fails and recovers."""
    async with session.running() as driver:
        (name, *_) = session.names
        if not session.subject.fail(None):
            for number in (11, 14, 17, 39):
                yield skipped(number, "no device can be made to fail here")
            return
        claim = session.claim([name])
        await session.prepare(driver, claim)
        async for finding in _fail_and_mend(session, name):
            yield finding
        session.api.gates.discard(TAINTS)
        session.subject.fail(name)
        await session.rest(1.0)
        before = len(session.api.writes())
        await session.rest(QUIET_S)
        wrote = len(session.api.writes()) - before
        yield judged(11, [f"{wrote} writes"] if wrote > 1 else (), "no write again and again")
        session.api.gates.add(TAINTS)
        session.subject.fail(None)
        await session.unprepare(driver, claim)


async def _fail_and_mend(session: Session, name: str) -> AsyncIterator[Finding]:
    await session.rest(QUIET_S)
    before, generation = len(session.api.writes()), _generation(session)
    session.subject.fail(name)
    if not await session.wait(lambda: _tainted(session, name), SETTLED_S):
        if name in session.api.devices:
            yield failed(39, f"{name} failed and has no taint")
            yield passed(17, f"{name} stays")
        else:
            yield skipped(39, f"{name} was taken out")
            yield failed(17, f"{name} was taken out")
        session.subject.fail(None)
        return
    added = _tainted(session, name)
    await session.rest(QUIET_S)
    wrote = len(session.api.writes()) - before
    problems = [f"{wrote} writes"] if wrote != 1 else []
    problems += ["another generation"] if _generation(session) != generation else []
    yield judged(14, problems, "one write, the generation stays")
    yield passed(17, f"{name} stays, tainted")
    problems = ["its time changed"] if _tainted(session, name) != added else []
    session.subject.fail(None)
    if not await session.wait(lambda: name in session.names, SETTLED_S):
        problems.append(f"{name} recovered and has its taint still")
    yield judged(39, problems, "tainted while it fails, and no longer")


def _generation(session: Session) -> int:
    return max(int(spec["pool"]["generation"]) for spec in _specs(session))


def _tainted(session: Session, name: str) -> list[Any]:
    found: list[Any] = session.api.devices.get(name, {}).get("taints", [])
    return found
