"""NVML in a process of its own: the same answers, ended and started as it should be; what the two
processes say to each other is bounded and typed."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import (
    CallTimeoutError,
    DiscoveryError,
    LibraryError,
    UnavailableError,
    VendorError,
)
from deviceplugin.host import Host
from deviceplugin.vendors.nvidia.child.session import MODULE, VARIABLES, ProcessSession
from deviceplugin.vendors.nvidia.child.wire import MAX_BYTES, Answer, Channel, Failed
from tests.fakes.nvml import NvmlDouble
from tests.rig import WAIT_S
from tests.vendors.nvidia.conftest import MakeVendor
from tests.vendors.nvidia.health_machine import Report

pytestmark = pytest.mark.slow

CHILD = {"library_process": True}
NO_MESSAGE = (EOFError, OSError, msgspec.MsgspecError)


def libraries() -> list[psutil.Process]:
    """Our children that have the library: other tests of this process may have left others."""
    return [child for child in psutil.Process().children() if MODULE in _command(child)]


def _command(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except psutil.Error:  # it ends just now
        return []


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(tmp_path: Path, clock: Clock) -> Iterator[ProcessSession]:
    session = ProcessSession(Host(tmp_path), "/", clock)
    yield session
    session.close()


def test_the_answers_are_those_of_a_library_in_this_process(
    node: NvmlDouble, make_vendor: MakeVendor
) -> None:
    node.lose(1)
    here, there = make_vendor(), make_vendor(nvidia=CHILD)
    found = here.discover()
    assert there.discover() == found
    gpu = found.devices[0]
    node.update_gpu(0, lambda gpu: replace(gpu, recovery_action=1))
    assert there.probe_health(gpu) == here.probe_health(gpu)


def test_errors_of_the_library_are_the_same(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    vendor = make_vendor(nvidia=CHILD)
    gpu = vendor.discover().devices[0]
    node.fail("nvmlDeviceGetHandleByUUID", 15)
    with pytest.raises(LibraryError, match="GPU is lost") as lost:
        vendor.probe_health(gpu)
    assert (lost.value.call, lost.value.code) == ("nvmlDeviceGetHandleByUUID", 15)


def test_a_node_without_a_driver_says_so(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    node.uninstall()
    vendor = make_vendor(nvidia=CHILD)
    with pytest.raises(UnavailableError, match="neither in the driver root"):
        vendor.discover()
    node.install()
    assert len(vendor.discover().devices) == 7


def test_events_are_told_until_nobody_listens(node: NvmlDouble, make_vendor: MakeVendor) -> None:
    vendor = make_vendor(nvidia=CHILD)
    devices = vendor.discover().devices
    report, stop = Report(), threading.Event()
    thread = threading.Thread(target=vendor.watch_health, args=(devices, report, stop))
    thread.start()
    report.looks.get(timeout=WAIT_S)  # it has registered
    node.raise_event(2, 79)
    assert report.events.get(timeout=WAIT_S).device == devices[2].id
    stop.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_nothing_is_asked_before_the_first_look(session: ProcessSession, node: NvmlDouble) -> None:
    with pytest.raises(DiscoveryError, match="is not there"):
        session.watch((), Report(), threading.Event())


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("segv", "it died of SIGSEGV"),
        ("abort", "it died of SIGABRT"),
        ("exit", "it ended with status 7"),
    ],
    ids=["segv", "abort", "exit"],
)
def test_its_end_is_named(session: ProcessSession, node: NvmlDouble, how: Any, why: str) -> None:
    node.crash("nvmlDeviceGetName", how)
    with pytest.raises(DiscoveryError, match=why):
        session.snapshot()


def test_the_child_has_no_capability_no_secret_and_gets_none(
    session: ProcessSession, node: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVICEPLUGIN_SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    session.snapshot()
    (child,) = libraries()
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert set(child.environ()) <= set(VARIABLES)
    limits = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
    bounded = {line[:26].strip(): line[26:].split()[0] for line in limits}
    assert bounded["Max file size"] == str(1 << 20)
    assert bounded["Max core file size"] == "0"
    assert int(bounded["Max open files"]) <= 1024


def test_a_crash_in_a_look_that_is_not_repeated_costs_no_device(
    session: ProcessSession, node: NvmlDouble
) -> None:
    node.hang("nvmlDeviceGetName")
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(session.snapshot)
        while not (children := libraries()):
            assert not seen.done()
        children[0].kill()
        node.unhang()
        assert len(seen.result(WAIT_S).scan.gpus) == 4
    assert [child.pid for child in libraries()] != [children[0].pid]


def test_a_library_that_keeps_crashing_is_tried_less_and_less_often(
    session: ProcessSession, node: NvmlDouble, clock: Clock
) -> None:
    node.crash("nvmlInit*")
    died = "it died of SIGSEGV$"
    with pytest.raises(DiscoveryError, match=died):
        session.snapshot()
    for pause_s in (4, 9, 19, 39, 59, 59):
        with pytest.raises(DiscoveryError, match=f"next in {pause_s} s"):
            session.snapshot()
        clock.now_s += pause_s
        with pytest.raises(DiscoveryError, match=died):
            session.snapshot()
    node.clear_faults()
    clock.now_s += 60
    session.snapshot()
    node.crash("nvmlDeviceGetName")
    with pytest.raises(DiscoveryError, match=died):
        session.snapshot()
    with pytest.raises(DiscoveryError, match="next in 4 s"):  # it counts from the start again
        session.snapshot()


def test_a_gpu_that_hung_is_not_asked_again_at_once(
    node: NvmlDouble, make_vendor: MakeVendor, session: ProcessSession, clock: Clock
) -> None:
    devices = make_vendor().discover().devices
    session.snapshot()
    node.hang("nvmlDeviceGetTotalEnergyConsumption", gpu=0)
    with pytest.raises(CallTimeoutError, match="did not answer within 4 s"):
        session.ask(devices[0])
    session.snapshot()
    with pytest.raises(CallTimeoutError, match="asked again in 20 s"):
        session.ask(devices[0])
    assert session.ask(devices[1]).energy == 1_000_000
    node.unhang()
    clock.now_s += 20
    assert session.ask(devices[0]).energy == 1_000_000


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        yield channel, theirs


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


GARBAGE = {
    "closed": b"",
    "half_a_length": b"\0\0",
    "half_a_message": frame(b"12345")[:-1],
    "too_long": (MAX_BYTES + 1).to_bytes(4, "big"),
    "not_messagepack": frame(b"\xc1\xc1"),
    "nothing": frame(b""),
    "no_map": frame(msgspec.msgpack.encode([1, 2])),
    "unknown_type": frame(msgspec.msgpack.encode({"type": "Shutdown"})),
    "missing_field": frame(msgspec.msgpack.encode({"type": "Happened"})),
    "wrong_field": frame(msgspec.msgpack.encode({"type": "Happened", "fault": "none"})),
    "no_device": frame(
        msgspec.msgpack.encode(
            {"type": "Happened", "fault": {"device": 7, "source": "s", "code": "c", "reason": "r"}}
        )
    ),
    "deep": frame(b"\x82\xa4type\xa4Beat\xa1x" + b"\x91" * 5000 + b"\xc0"),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_message_is_refused(ends: tuple[Channel, socket.socket], sent: bytes) -> None:
    channel, theirs = ends
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(NO_MESSAGE):
        channel.receive(Answer, WAIT_S)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_refused(body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with Channel(ours) as channel, theirs:
        theirs.sendall(frame(body))
        try:
            message: object = channel.receive(Answer, WAIT_S)  # type: ignore[arg-type]
        except NO_MESSAGE:
            return
        assert isinstance(message, Answer)


def test_silence_ends_at_its_limit(ends: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        ends[0].receive(Answer, 0.05)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        LibraryError("nvmlInit", -3, "what?"),
        UnavailableError("no driver"),
        DiscoveryError("unreadable"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_itself(
    ends: tuple[Channel, socket.socket], error: VendorError
) -> None:
    channel, theirs = ends
    with Channel(theirs.dup()) as other:
        other.send(Failed.of(error))
    arrived = channel.receive(Failed, WAIT_S).error()
    assert (type(arrived), str(arrived)) == (type(error), str(error))
