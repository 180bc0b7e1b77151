"""Liveness is asked for inside the pod: no stranger has part in it."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin import alive
from deviceplugin.runtime.liveness import RETRY_S, answering_liveness
from tests.rig import WAIT_S

PID = os.getpid()


async def test_a_loop_that_runs_is_alive() -> None:
    assert await asyncio.to_thread(alive.problem, PID, WAIT_S) != ""
    with answering_liveness():
        assert await asyncio.to_thread(alive.problem, PID, WAIT_S) == ""
    assert "no daemon answers" in await asyncio.to_thread(alive.problem, PID, WAIT_S)


async def test_a_loop_that_hangs_is_not() -> None:
    found: list[str] = []

    def ask() -> None:
        found.append(alive.problem(PID, 0.2))

    with answering_liveness():
        asker = threading.Thread(target=ask)
        asker.start()
        asker.join()  # this is the loop's own thread
    assert found == [f"the event loop of process {PID} does not answer within 0.2 s"]


async def test_many_peers_that_say_nothing_hold_nothing() -> None:
    with answering_liveness():
        for _ in range(1000):
            assert await asyncio.to_thread(alive.problem, PID, WAIT_S) == ""


async def test_a_socket_that_is_taken_costs_the_socket_alone() -> None:
    with answering_liveness(), capture_logs() as logs, answering_liveness():
        assert await asyncio.to_thread(alive.problem, PID, WAIT_S) == ""
    assert [entry["event"] for entry in logs] == ["no_liveness_socket"]


@pytest.mark.slow
async def test_the_probe_needs_nothing_of_the_package() -> None:
    """As the manifest starts it: without `site`, so without the folder of packages."""
    command = [sys.executable, "-I", "-S", str(Path(alive.__file__))]
    with answering_liveness():
        for pid, status, text in ((PID, 0, "ok"), (1 << 22, 1, "no daemon answers")):
            done = await asyncio.to_thread(
                subprocess.run,
                [*command, str(pid)],
                capture_output=True,
                text=True,
                check=False,
                timeout=WAIT_S,
            )
            assert (done.returncode, done.stderr) == (status, "")
            assert text in done.stdout


LISTED = (
    "Num       RefCount Protocol Flags    Type St Inode Path\n"
    "0000000000000000: 00000002 00000000 00010000 0001 01 5157291 @deviceplugin.alive.{}\n"
    "0000000000000000: 00000003 00000000 00000000 0001 03 5157292 @deviceplugin.alive.{}\n"
    "0000000000000000: 00000002 00000000 00010000 0001 01 24311 /run/other.sock\n"
)


@pytest.mark.parametrize(
    ("sockets", "pid"),
    [
        (LISTED.format(1, 1), 1),
        (LISTED.format(48213, 48213), 48213),
        (LISTED.format(48213, 7), 1),
        (LISTED.format("x", "x"), 1),
        ("", 1),
    ],
    ids=["alone", "with the host's processes", "several", "another's", "unreadable"],
)
def test_the_daemon_of_a_pod_is_found_also_where_it_is_not_process_1(
    sockets: str, pid: int
) -> None:
    assert alive.daemon_of(sockets) == pid


async def test_a_daemon_is_in_the_list_of_its_network_namespace() -> None:
    with answering_liveness():
        listed = await asyncio.to_thread(Path(alive.SOCKETS).read_text)
    assert f"@deviceplugin.alive.{PID}" in listed


async def test_without_descriptors_it_waits_and_does_not_spin() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with answering_liveness(), socket.socket(socket.AF_UNIX) as peer:
        peer.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            peer.connect(alive.ADDRESS % PID)
            before = time.process_time()
            await asyncio.sleep(RETRY_S / 2)
            assert time.process_time() - before < RETRY_S / 4
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with asyncio.timeout(WAIT_S):
            while (answer := _received(peer)) is None:  # noqa: ASYNC110  # a socket
                await asyncio.sleep(0.01)
    assert answer == alive.ANSWER


def _received(peer: socket.socket) -> bytes | None:
    try:
        return peer.recv(10)
    except BlockingIOError:
        return None
