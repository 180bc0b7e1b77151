"""Lines 34 to 38: what outlives the driver, and the stream of health."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from stat import S_IMODE

from deviceplugin.testing.conformance.dra.preparing import cdi_names
from deviceplugin.testing.conformance.dra.session import Refused, Session
from deviceplugin.testing.conformance.losses import LostError
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, skipped
from deviceplugin.testing.dra import Driver

STREAMS = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
FIRST_S, MAX_TEXT, OWNER_ALONE = 1.0, 1024, 0o077


async def remember(session: Session) -> AsyncIterator[Finding]:
    """What is known after a kill, a deletion, damage and a new start of the node."""
    async for finding in _deleted_meanwhile(session):
        yield finding
    async for finding in _damaged(session):
        yield finding
    async for finding in _rebooted(session):
        yield finding


async def _deleted_meanwhile(session: Session) -> AsyncIterator[Finding]:
    async with session.running() as driver:
        claim = session.claim(session.names[:1])
        await session.prepare(driver, claim)
        problems = list(_open_files(session))
        yield judged(37, problems, "no rights for others")
        await session.subject.kill()
    session.delete(claim)
    async with session.running() as driver:
        gone = await session.wait(lambda: not any(claim.uid in n for n in cdi_names(session)))
        problems = [] if gone else ["a CDI file names it still"]
        second = session.claim(session.names[:1])
        found = await session.prepare(driver, second)
        problems += [found.text] if isinstance(found, Refused) else []
        yield judged(36, problems, "it holds nothing")
        await session.unprepare(driver, second, claim)


def _open_files(session: Session) -> Iterator[str]:
    for path in session.subject.state_dir.rglob("*"):
        mode = S_IMODE(path.stat().st_mode)
        if path.is_file() and mode & OWNER_ALONE:
            yield f"{path.name} has mode {mode:o}"


async def _damaged(session: Session) -> AsyncIterator[Finding]:
    """Every file of the state is cut in half."""
    async with session.running() as driver:
        claim = session.claim(session.names[:1])
        await session.prepare(driver, claim)
    files = [path for path in session.subject.state_dir.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if not files:
        yield skipped(35, "the driver keeps no state in its directory")
        return
    try:
        async with session.running() as driver:
            found = await session.prepare(driver, claim)
            problems = [f"the claim itself: {found.text}"] if isinstance(found, Refused) else []
            yield judged(35, problems, f"it serves with {len(files)} damaged files")
            await session.unprepare(driver, claim)
    except LostError as error:
        yield failed(35, str(error))
        for path in files:
            path.unlink(missing_ok=True)


async def _rebooted(session: Session) -> AsyncIterator[Finding]:
    async with session.running() as driver:
        claim = session.claim(session.names[:1])
        await session.prepare(driver, claim)
    if not session.subject.reboot():
        yield skipped(34, "no other boot id can be given here")
        return
    async with session.running() as driver:
        names = {name for one in session.api.claims.values() for name in _devices(one)}
        second = session.claim(sorted(names & set(session.names))[:1])
        found = await session.prepare(driver, second)
        problems = [found.text] if isinstance(found, Refused) else []
        yield judged(34, problems, "its device was given to another claim")
        await session.unprepare(driver, second, claim)


def _devices(claim: dict[str, object]) -> list[str]:
    status = claim.get("status")
    allocation = status.get("allocation") if isinstance(status, dict) else None
    results = allocation["devices"]["results"] if allocation else ()
    return [one["device"] for one in results]


async def tell_health(session: Session) -> AsyncIterator[Finding]:
    """Line 38, by each service of the stream that is named."""
    async with session.running() as driver:
        services = [one for one in STREAMS if one in driver.services]
        if not services:
            yield skipped(38, "the driver names no health service")
        for service in services:
            yield await _first_list(session, driver, service)


async def _first_list(session: Session, driver: Driver, service: str) -> Finding:
    try:
        async with (
            asyncio.timeout(FIRST_S * session.slack),
            aclosing(driver.health(service)) as got,
        ):
            first = await anext(got)
    except (TimeoutError, StopAsyncIteration):
        return failed(38, f"{service}: no list within {FIRST_S:g} s")
    told = {one.device.device_name for one in first.devices}
    missing = sorted(session.api.devices.keys() - told)
    problems = [f"{service} does not tell of {', '.join(missing)}"] if missing else []
    problems += [
        f"{service}: a text of {len(one.message.encode())} bytes"
        for one in first.devices
        if len(one.message.encode()) > MAX_TEXT
    ]
    return judged(38, problems, f"{', '.join(STREAMS)}: complete")
