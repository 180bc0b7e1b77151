"""The vendors' agents on their sockets: what they say, and what their absence costs."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from deviceplugin.exporters.dialects import DIALECTS, Dialect
from deviceplugin.exporters.listener import Listener
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.pb import exporter_amd_pb2 as amd
from deviceplugin.pb import exporter_intel_pb2 as intel
from deviceplugin.pb import exporter_nvidia_pb2 as nvidia
from tests.rig import WAIT_S

DEVICES = (
    Device(id=DeviceID("amd-1"), vendor="amd", pci_address="0000:63:00.0"),
    Device(id=DeviceID("p1"), vendor="amd", parent=DeviceID("amd-1"), pci_address="0000:63:00.0"),
    Device(id=DeviceID("0000:03:00.0"), vendor="intel", pci_address="0000:03:00.0"),
    Device(id=DeviceID("GPU-1"), vendor="nvidia", pci_address="0000:07:00.0"),
)
BY_VENDOR = {dialect.vendor: dialect for dialect in DIALECTS}


def amd_answer(health: str) -> amd.GPUStateResponse:
    return amd.GPUStateResponse(GPUState=[amd.GPUState(Health=health, Device="0000:63:00.0")])


def intel_answer(severity: int) -> intel.DeviceHealthResponse:
    device = intel.DeviceHealth(
        info=intel.Info(pci=intel.PciInfo(bdf="0000:03:00.0")),
        health=[intel.HealthStatus(name="memory", severity=severity, reason="bad")],
    )
    return intel.DeviceHealthResponse(devices=[device])


def nvidia_answer(kind: str, type_: str, status: str) -> nvidia.WatchGpusResponse:
    gpu = nvidia.Gpu(
        metadata=nvidia.GpuMetadata(name="gpu-1"),
        spec=nvidia.GpuSpec(uuid="GPU-1"),
        status=nvidia.GpuStatus(conditions=[nvidia.Condition(type=type_, status=status)]),
    )
    return nvidia.WatchGpusResponse(type=kind, object=gpu)


@pytest.mark.parametrize(
    ("vendor", "answer", "expected"),
    [
        ("amd", amd_answer("healthy"), []),
        ("amd", amd_answer("unknown"), []),
        ("amd", amd_answer("unhealthy"), [("amd-1", FaultClass.RESET)]),
        ("intel", intel_answer(0), []),
        ("intel", intel_answer(1), []),
        ("intel", intel_answer(2), [("0000:03:00.0", FaultClass.WARN)]),
        ("intel", intel_answer(3), [("0000:03:00.0", FaultClass.RESET)]),
        ("intel", intel_answer(4), [("0000:03:00.0", FaultClass.HARDWARE)]),
        ("nvidia", nvidia_answer("ADDED", "Ready", "True"), []),
        ("nvidia", nvidia_answer("ADDED", "Ready", "Unknown"), []),
        ("nvidia", nvidia_answer("MODIFIED", "Ready", "False"), [("GPU-1", FaultClass.RESET)]),
        ("nvidia", nvidia_answer("ADDED", "XidError", "True"), [("GPU-1", FaultClass.WARN)]),
        ("nvidia", nvidia_answer("DELETED", "Ready", "False"), []),
    ],
)
def test_an_agents_word_is_a_fault_of_the_device_it_means(
    vendor: str, answer: Any, expected: list[tuple[str, FaultClass]]
) -> None:
    dialect = BY_VENDOR[vendor]
    faults = list(dialect.faults_of(dialect.hear({}, answer), DEVICES))
    assert [(fault.device, fault.kind) for fault in faults] == expected
    assert all(f.reason and f.action and f.source == dialect.source for f in faults)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))
    yield directory / "agent.sock"
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile


@dataclass
class Garbage:
    """A message that serialises to bytes which are none."""

    data: bytes

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        return self.data


class Told:
    """Where a listener tells, and a way to wait for it."""

    def __init__(self) -> None:
        self.sets: asyncio.Queue[Sequence[Fault]] = asyncio.Queue()

    def __call__(self, source: str, faults: Sequence[Fault]) -> None:
        self.sets.put_nowait(faults)


async def serve(dialect: Dialect, path: Path, answer: Any) -> grpc.aio.Server:
    service, method = dialect.method.strip("/").split("/")
    coding = {
        "request_deserializer": type(dialect.request).FromString,
        "response_serializer": type(answer).SerializeToString,
    }

    async def one(_: Any, __: Any) -> Any:
        return answer

    async def stream(_: Any, __: Any) -> AsyncIterator[Any]:
        yield answer
        await asyncio.Future()

    handler = (
        grpc.unary_stream_rpc_method_handler(stream, **coding)
        if dialect.streams
        else grpc.unary_unary_rpc_method_handler(one, **coding)
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    return server


@pytest.mark.parametrize(
    ("vendor", "answer"),
    [
        ("amd", amd_answer("unhealthy")),
        ("intel", intel_answer(3)),
        ("nvidia", nvidia_answer("ADDED", "Ready", "False")),
    ],
)
async def test_an_agent_is_heard_over_its_socket(
    socket_path: Path, vendor: str, answer: Any
) -> None:
    dialect, told = BY_VENDOR[vendor], Told()
    server = await serve(dialect, socket_path, answer)
    listening = asyncio.create_task(Listener(dialect, socket_path, told).run(lambda: DEVICES))
    faults = await asyncio.wait_for(told.sets.get(), WAIT_S)
    assert [fault.kind for fault in faults] == [FaultClass.RESET]
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_an_absent_agent_says_nothing_and_keeps_being_looked_for(socket_path: Path) -> None:
    told = Told()
    listener = Listener(BY_VENDOR["amd"], socket_path, told)
    listening = asyncio.create_task(listener.run(lambda: DEVICES))
    await asyncio.wait([listening], timeout=0.1)
    assert not listening.done()
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])


async def test_an_agent_that_sends_something_else_is_lost_and_not_believed(
    socket_path: Path,
) -> None:
    dialect, told = BY_VENDOR["intel"], Told()
    text = intel.DeviceHealthResponse(devices=[intel.DeviceHealth()]).SerializeToString()
    server = await serve(dialect, socket_path, Garbage(text + b"\xff"))
    with capture_logs() as logs:
        listener = Listener(dialect, socket_path, told)
        listening = asyncio.create_task(listener.run(lambda: DEVICES))
        async with asyncio.timeout(WAIT_S):
            while not any(entry["event"] == "health_agent_lost" for entry in logs):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not listening.done()
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)
