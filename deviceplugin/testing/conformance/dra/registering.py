"""Lines 1 to 6 and 44: the sockets, and who serves on them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc

from deviceplugin.kubelet.socket import is_listening, read_identity
from deviceplugin.pb import pluginregistration_v1_pb2 as registration
from deviceplugin.testing.conformance.dra.session import Refused, Session, told
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, passed
from deviceplugin.testing.dra import KNOWN, DraKubelet, Driver
from deviceplugin.testing.stalesocket import SOCKET_PATH_MAX_BYTES


async def register(session: Session) -> AsyncIterator[Finding]:
    """Lines 1, 2, 3 and 6."""
    await session.subject.start()
    try:
        await session.need(session.kubelet.sockets, "a registration socket")
        (socket, *_) = session.kubelet.sockets()
        listening = {path for path in sockets_below(session) if is_listening(path)}
        info = await _info(socket)
        yield judged(1, _told_wrong(info, listening), f"{info.name}: {info.endpoint}")
        yield judged(3, _too_long(session, info), f"{info.endpoint}: {len(info.endpoint)} bytes")
        await _refuse(socket)
        await session.need(lambda: session.api.devices, "a complete pool with devices")
        again = await session.wait(lambda: any(map(is_listening, session.kubelet.sockets())))
        yield judged(6, () if again else ["its socket is gone"], "there after a refusal")
        async with session.registered() as driver:
            yield judged(2, [text async for text in _alike(session, driver)], "all alike")
    finally:
        await session.subject.end()


def sockets_below(session: Session) -> list[Path]:
    """Every socket of the kubelet's directories."""
    return [path for path in session.subject.kubelet_dir.rglob("*") if path.is_socket()]


async def _info(socket: Path) -> registration.PluginInfo:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(
            "/pluginregistration.Registration/GetInfo",
            request_serializer=registration.InfoRequest.SerializeToString,
            response_deserializer=registration.PluginInfo.FromString,
        )
        answer: registration.PluginInfo = await call(registration.InfoRequest(), timeout=10)
        return answer


async def _refuse(socket: Path) -> None:
    """A kubelet that knows none of its services."""
    refusing = DraKubelet(socket.parent.parent, known={})
    try:
        async with refusing.driver(socket):
            pass
    except Exception as error:
        if "is a service that is known" not in str(error):
            raise


def _told_wrong(info: registration.PluginInfo, listening: set[Path]) -> Iterator[str]:
    if info.type != "DRAPlugin":
        yield f"type {info.type!r}"
    if not info.name:
        yield "no name"
    if not Path(info.endpoint).is_absolute():
        yield f"endpoint {info.endpoint!r} is not absolute"
    elif Path(info.endpoint) not in listening:
        yield "nobody listened on the endpoint when the registration socket was there"
    versions = [version for version in info.supported_versions if version in KNOWN]
    if not versions:
        yield f"services {list(info.supported_versions)}: none is a DRAPlugin"
    elif versions != [version for version in KNOWN if version in versions]:
        yield f"services {versions}: the newest is not first"


def _too_long(session: Session, info: registration.PluginInfo) -> Iterator[str]:
    for path in (*map(str, sockets_below(session)), info.endpoint):
        if len(path.encode()) > SOCKET_PATH_MAX_BYTES:
            yield f"{path}: {len(path.encode())} bytes"


async def _alike(session: Session, driver: Driver) -> AsyncIterator[str]:
    """A claim prepared by each service in turn."""
    claim = session.claim(session.names[:1])
    answers = {}
    for service in KNOWN:
        if service in driver.services:
            driver.service = KNOWN[service]
            answers[service] = told(await session.prepare(driver, claim))
    for service, answer in answers.items():
        if answer != next(iter(answers.values())) or answer[0][0] == "refused":
            yield f"{service} answers {answer}"
    await session.unprepare(driver, claim)


async def live_twice(session: Session) -> AsyncIterator[Finding]:
    """Lines 5 and 4: an end and a start, and a second instance beside the first."""
    async with session.running() as driver:
        (name, *_) = session.names
        claim = session.claim([name])
        before, slices = told(await session.prepare(driver, claim)), dict(session.api.slices)
    problems = [f"{path} is left" for path in sockets_below(session)]
    problems += ["slices were taken away"] if session.api.slices.keys() != slices.keys() else []
    if problems:  # a socket that is left may be in the way of the next start
        yield judged(5, problems, "")
    second = session.subject.another()
    async with session.running() as driver:
        problems += [text async for text in _given_away(session, driver, name)]
        after = told(await session.prepare(driver, claim))
        problems += [f"prepared again: {before}, then {after}"] if before != after else []
        problems += ["slices were made anew"] if session.api.slices.keys() != slices.keys() else []
        yield judged(5, problems, "sockets removed, slices and the claim stay")
        await second.start()
    try:
        async with session.registered() as driver:
            after = told(await session.prepare(driver, claim))
            problems = [f"the first answered {before}, the second {after}"]
            problems = problems if before != after else []
            problems += filter(None, [await session.unprepare(driver, claim)])
            yield judged(4, problems, "the second instance has the claim of the first")
    finally:
        await second.end()


async def _given_away(session: Session, driver: Driver, name: str) -> AsyncIterator[str]:
    rival = session.claim([name])
    if not isinstance(await session.prepare(driver, rival), Refused):
        yield f"{name} was given to another claim after the start"
    await session.unprepare(driver, rival)
    session.delete(rival)


async def leave_alone(session: Session) -> AsyncIterator[Finding]:
    """Line 44: the endpoint of another process stays its own."""
    async with session.running() as driver:
        endpoint = Path(driver.endpoint)
    _make_place(endpoint)
    other = grpc.aio.server()
    other.add_insecure_port(f"unix:{endpoint}")
    await other.start()
    own = read_identity(endpoint)
    try:
        await session.subject.start()
        await session.rest(1.0)
        if read_identity(endpoint) == own and not session.kubelet.sockets():
            yield passed(44, "nothing was registered while another process served")
        else:
            yield failed(44, f"{endpoint} was taken from the process that serves there")
    finally:
        await session.subject.end()
        await other.stop(None)
        _remove(endpoint)


def _make_place(endpoint: Path) -> None:
    endpoint.parent.mkdir(parents=True, exist_ok=True)


def _remove(endpoint: Path) -> None:
    endpoint.unlink(missing_ok=True)
