"""Lines 20 to 32: what becomes of claims."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from deviceplugin.testing.conformance.dra.session import Devices, Refused, Session, told
from deviceplugin.testing.conformance.verdict import Finding, judged, skipped
from deviceplugin.testing.dra import ClaimName, Driver

ANSWERED_S = 40.0
SHARE = "11111111-2222-3333-4444-555555555555"
Claim = dict[str, Any]


async def prepare(session: Session) -> AsyncIterator[Finding]:
    """All of them on one life of the driver."""
    async with session.running() as driver:
        if len(session.names) < 2:
            for number in (20, 21, 22, 23, 24, 25, 26, 28, 31, 32):
                yield skipped(number, "fewer than two devices are free")
            return
        checks = (_answer, _compete, _administer, _share, _fail_in_part, _give_back, _come_late)
        for check in checks:
            async for finding in check(session, driver):
                yield finding
        strange = [text async for text in _strange(session, driver)]
        yield judged(20, strange, "refused, or passed over")
        unknown = await _altered(session, driver, _unknown_field)
        yield judged(24, unknown, "an unknown field is refused")
    poor = [text for text in session.errors if "\n" in text or not text.strip()]
    yield judged(29, [f"{text!r}" for text in poor], f"{len(session.errors)} errors of one line")
    slow = session.longest_s > ANSWERED_S * session.slack
    seen = f"the longest took {session.longest_s:.1f} s"
    yield judged(27, [seen] if slow else (), seen)


async def _answer(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    """The same twice, with files that are complete."""
    claim = session.claim(session.names[:2])
    first = await session.prepare(driver, claim)
    problems = [f"refused: {first.text}"] if isinstance(first, Refused) else []
    if not isinstance(first, Refused):
        problems += _cdi_problems(session, first)
    yield judged(25, problems, "each id is in a file")
    again = told(await session.prepare(driver, claim))
    same = told(first) == again
    yield judged(21, () if same else [f"{told(first)}, then {again}"], "the same answer")
    await session.unprepare(driver, claim)


def _cdi_problems(session: Session, devices: Devices) -> Iterator[str]:
    known = cdi_names(session)
    answered = [name for device in devices for name in device.cdi_device_ids]
    if not answered:
        yield "no CDI id was answered"
    for name in answered:
        if known.count(name) != 1:
            yield f"{name} is in {known.count(name)} files"
    if len({device.device_name for device in devices}) != len(devices):
        yield "a device is answered twice"


def cdi_names(session: Session) -> list[str]:
    """Every CDI name of every file; what cannot be read has none."""
    found = []
    for path in session.subject.cdi_dir.glob("*.json"):
        try:
            spec = json.loads(path.read_text())
            found += [f"{spec['kind']}={device['name']}" for device in spec["devices"]]
        except (OSError, ValueError, LookupError):
            continue
    return found


async def _compete(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    """A device of a claim that is there, and of one that is gone."""
    (name, *_) = session.names
    first, second = session.claim([name]), session.claim([name])
    await session.prepare(driver, first)
    found = await session.prepare(driver, second)
    problems = []
    if not isinstance(found, Refused):
        problems.append(f"{name} was given to a second claim")
        await session.unprepare(driver, second)
    elif first.name not in found.text and first.uid not in found.text:
        problems.append(f"the refusal does not name the claim: {found.text}")
    session.delete(first)
    found = await session.prepare(driver, second)
    if isinstance(found, Refused):
        problems.append(f"its holder is gone, and it was refused: {found.text}")
    yield judged(22, problems, "refused with the holder's name, given when that was gone")
    await session.unprepare(driver, second, first)


async def _administer(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    (name, *_) = session.names
    owner, admin, third = session.claim([name]), session.claim([name]), session.claim([name])
    session.administers(admin)
    await session.prepare(driver, owner)
    exclusive = isinstance(await session.prepare(driver, third), Refused)
    await session.unprepare(driver, third)
    found = await session.prepare(driver, admin)
    problems = [f"refused: {found.text}"] if isinstance(found, Refused) else []
    await session.unprepare(driver, admin)
    if isinstance(await session.prepare(driver, owner), Refused):
        problems.append("the other claim has lost its device")
    fourth = session.claim([name])
    if exclusive and not isinstance(await session.prepare(driver, fourth), Refused):
        problems.append("the device was free after the admin's end")
    yield judged(23, problems, "given beside the other claim")
    await session.unprepare(driver, fourth, owner)


async def _share(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    devices = session.api.devices
    several = [name for name in session.names if devices[name].get("allowMultipleAllocations")]
    if not several:
        yield skipped(26, "no device may be allocated several times")
        return
    consumed = {key: one["value"] for key, one in devices[several[0]].get("capacity", {}).items()}
    claim = session.claim(several[:1], shareID=SHARE, consumedCapacity=consumed)
    found = await session.prepare(driver, claim)
    problems = [f"refused: {found.text}"] if isinstance(found, Refused) else []
    if not isinstance(found, Refused):
        problems += [f"{d.share_id!r} for {SHARE}" for d in found if d.share_id != SHARE]
    yield judged(26, problems, "the id of the share came back")
    await session.unprepare(driver, claim)


async def _fail_in_part(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    """One of two devices is not there."""
    (name, *_) = session.names
    claim = session.claim([name, "no-such-device"])
    files = cdi_names(session)
    found = await session.prepare(driver, claim)
    problems = [] if isinstance(found, Refused) else ["prepared without one of its devices"]
    problems += [f"{one} is left" for one in cdi_names(session) if one not in files]
    second = session.claim([name])
    found = await session.prepare(driver, second)
    problems += [f"{name} is not free: {found.text}"] if isinstance(found, Refused) else []
    yield judged(28, problems, "nothing was left of it")
    await session.unprepare(driver, second, claim)


async def _give_back(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    (name, *_) = session.names
    claim, next_one = session.claim([name]), session.claim([name])
    await session.prepare(driver, claim)
    problems = [f"the first: {text}"] if (text := await session.unprepare(driver, claim)) else []
    left = [f"{one} is left" for one in cdi_names(session) if claim.uid in one]
    found = await session.prepare(driver, next_one)
    left += [f"{name} is not free: {found.text}"] if isinstance(found, Refused) else []
    yield judged(31, left, "no file names it, the device was given to the next")
    if text := await session.unprepare(driver, claim):
        problems.append(f"the second: {text}")
    session.delete(next_one)
    if text := await session.unprepare(driver, next_one):
        problems.append(f"without its object: {text}")
    never = ClaimName(uid="never-seen", name="never-seen")
    if text := await session.unprepare(driver, never):
        problems.append(f"never prepared: {text}")
    yield judged(30, problems, "each succeeded")


async def _come_late(session: Session, driver: Driver) -> AsyncIterator[Finding]:
    """A retry that comes when the pod is gone; another pod of the same claim."""
    claim = session.claim(session.names[:1])
    await session.prepare(driver, claim)
    await session.unprepare(driver, claim)
    document = session.api.claims[claim.namespace, claim.name]
    reserved, document["status"]["reservedFor"] = document["status"]["reservedFor"], []
    found = await session.prepare(driver, claim)
    problems = [] if isinstance(found, Refused) else ["a late retry was prepared"]
    # The other pod's claim was allocated again.
    document["status"]["reservedFor"] = [{**reserved[0], "uid": "another-pod"}]
    stamp = {"allocationTimestamp": "2030-01-01T00:00:00Z"}
    document["status"]["allocation"] |= stamp
    found = await session.prepare(driver, claim)
    problems += [f"reserved again: {found.text}"] if isinstance(found, Refused) else []
    yield judged(32, problems, "refused, and prepared for another pod")
    await session.unprepare(driver, claim)


async def _strange(session: Session, driver: Driver) -> AsyncIterator[str]:
    """Claims that are not what the kubelet says, and one of several drivers."""
    for change in (_other_uid, _not_allocated, _foreign_alone):
        for text in await _altered(session, driver, change):
            yield text
    claim = session.claim(session.names[:1])
    _foreign_too(session.api.claims[claim.namespace, claim.name])
    found = await session.prepare(driver, claim)
    if isinstance(found, Refused):
        yield f"a claim of two drivers: {found.text}"
    elif len(found) != 1:
        yield f"a claim of two drivers: {told(found)}"
    await session.unprepare(driver, claim)


async def _altered(session: Session, driver: Driver, change: Callable[[Claim], None]) -> list[str]:
    """A claim that is to be refused, and what is wrong where it is not."""
    claim = session.claim(session.names[:1])
    change(session.api.claims[claim.namespace, claim.name])
    found = await session.prepare(driver, claim)
    await session.unprepare(driver, claim)
    return [] if isinstance(found, Refused) else [f"prepared: {change.__name__.strip('_')}"]


def _results(claim: Claim) -> list[Claim]:
    results: list[Claim] = claim["status"]["allocation"]["devices"]["results"]
    return results


def _other_uid(claim: Claim) -> None:
    """A claim that was made again under its name."""
    claim["metadata"]["uid"] = "another-uid"


def _not_allocated(claim: Claim) -> None:
    """A claim without an allocation."""
    del claim["status"]["allocation"]


def _foreign_alone(claim: Claim) -> None:
    """A claim that has nothing of this driver."""
    for result in _results(claim):
        result["driver"] = "other.example.com"


def _foreign_too(claim: Claim) -> None:
    other = {"request": "nic", "driver": "nic.example.com", "pool": "nics", "device": "nic-0"}
    _results(claim).insert(0, other)


def _unknown_field(claim: Claim) -> None:
    """Parameters with a field that nobody knows."""
    driver = _results(claim)[0]["driver"]
    parameters = {"apiVersion": f"{driver}/v1", "kind": "GpuConfig", "noSuchField": True}
    opaque = {"driver": driver, "parameters": parameters}
    claim["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "opaque": opaque}]
