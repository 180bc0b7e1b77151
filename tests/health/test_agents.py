"""The vendors' agents on their sockets: what they say, and what their absence costs."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from deviceplugin.health.agents import MAX_ANSWER_BYTES, Listener
from deviceplugin.health.dialects import (
    DIALECTS,
    MAX_COMPLAINTS,
    MAX_NAME,
    MAX_NAMES,
    NOTHING_SAID,
    Dialect,
    Word,
    bounded,
)
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
    return amd.GPUStateResponse(GPUState=[{"Health": health, "Device": "0000:63:00.0"}])


def intel_answer(severity: int) -> intel.DeviceHealthResponse:
    device = intel.DeviceHealth(
        info=intel.Info(pci=intel.PciInfo(bdf="0000:03:00.0")),
        health=[intel.HealthStatus(name="memory", severity=severity, reason="bad")],
    )
    return intel.DeviceHealthResponse(devices=[device])


def nvidia_answer(
    kind: str, type_: str, status: str, uuid: str = "GPU-1"
) -> nvidia.WatchGpusResponse:
    gpu = nvidia.Gpu(
        metadata=nvidia.GpuMetadata(name=uuid.lower()),
        spec=nvidia.GpuSpec(uuid=uuid),
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


def test_what_an_agent_invents_is_not_kept_without_end() -> None:
    dialect, said = BY_VENDOR["nvidia"], NOTHING_SAID
    said = dialect.hear(said, nvidia_answer("ADDED", "Ready", "False"))
    for number in range(3 * MAX_NAMES):
        answer = nvidia_answer("ADDED", "Ready", "False", f"GPU-no-{number}")
        said = bounded(dialect.hear(said, answer), dialect, DEVICES)
    assert len(said) == MAX_NAMES
    assert [fault.device for fault in dialect.faults_of(said, DEVICES)] == ["GPU-1"]
    newest = Device(id=DeviceID(f"GPU-no-{number}"), vendor="nvidia")  # found after it was told
    assert [fault.device for fault in dialect.faults_of(said, [newest])] == [newest.id]


@pytest.mark.parametrize(
    ("vendor", "answer"),
    [
        (
            "amd",
            amd.GPUStateResponse(
                GPUState=[
                    {"Health": "unhealthy", "Device": f"{number:04x}:63:00.0"}
                    for number in range(2 * MAX_NAMES)
                ]
            ),
        ),
        (
            "intel",
            intel.DeviceHealthResponse(
                devices=[
                    intel.DeviceHealth(
                        info=intel.Info(pci=intel.PciInfo(bdf=f"{number:04x}:03:00.0")),
                        health=[intel.HealthStatus(name="memory", severity=3)],
                    )
                    for number in range(2 * MAX_NAMES)
                ]
            ),
        ),
    ],
    ids=["amd", "intel"],
)
def test_of_one_long_answer_our_own_devices_are_kept(vendor: str, answer: Any) -> None:
    dialect = BY_VENDOR[vendor]
    said = bounded(dialect.hear(NOTHING_SAID, answer), dialect, DEVICES)
    assert len(said) == MAX_NAMES
    assert len(list(dialect.faults_of(said, DEVICES))) == 1


def test_a_gpu_that_nothing_is_said_against_needs_no_memory() -> None:
    dialect = BY_VENDOR["nvidia"]
    said = dialect.hear(NOTHING_SAID, nvidia_answer("ADDED", "Ready", "False"))
    assert dialect.hear(said, nvidia_answer("MODIFIED", "Ready", "True")) == {}
    assert BY_VENDOR["amd"].hear(NOTHING_SAID, amd_answer("healthy")) == {}
    assert BY_VENDOR["intel"].hear(NOTHING_SAID, intel_answer(1)) == {}


def test_of_one_gpu_some_complaints_are_kept_each_cut_to_size() -> None:
    conditions = [
        nvidia.Condition(type=f"Xid{number}" + "x" * 1000, status="True", message="m" * 10000)
        for number in range(1000)
    ]
    gpu = nvidia.Gpu(
        spec=nvidia.GpuSpec(uuid="GPU-1"), status=nvidia.GpuStatus(conditions=conditions)
    )
    said = NOTHING_SAID
    for number in range(3):  # one GPU under several names is one GPU
        gpu.metadata.name = f"name-{number}"
        said = BY_VENDOR["nvidia"].hear(said, nvidia.WatchGpusResponse(type="ADDED", object=gpu))
    faults = list(BY_VENDOR["nvidia"].faults_of(said, DEVICES))
    assert len(faults) == MAX_COMPLAINTS
    assert max(len(fault.code) + len(fault.reason) for fault in faults) < 500


def test_a_name_longer_than_any_is_not_kept() -> None:
    answer = nvidia_answer("ADDED", "Ready", "False", "G" * (MAX_NAME + 1))
    assert BY_VENDOR["nvidia"].hear(NOTHING_SAID, answer) == {}


def test_an_agent_speaks_of_its_own_vendors_gpus_alone() -> None:
    dialect = BY_VENDOR["amd"]
    answer = amd.GPUStateResponse(GPUState=[{"Health": "unhealthy", "Device": "0000:03:00.0"}])
    assert list(dialect.faults_of(dialect.hear(NOTHING_SAID, answer), DEVICES)) == []


@pytest.fixture
def socket_path(short_dir: Path) -> Path:
    return short_dir / "agent.sock"


@dataclass
class Garbage:
    """A message that serialises to bytes which are none."""

    data: bytes

    def SerializeToString(self) -> bytes:  # protobuf's name
        return self.data


class Told:
    """Where a listener tells, and a way to wait for it."""

    def __init__(self) -> None:
        self.sets: asyncio.Queue[Sequence[Fault]] = asyncio.Queue()

    def __call__(self, source: str, faults: Sequence[Fault]) -> None:
        self.sets.put_nowait(faults)


async def serve(dialect: Dialect, path: Path, *answers: Any) -> grpc.aio.Server:
    """An agent that says the answers, one after the other where it streams."""
    service, method = dialect.method.strip("/").split("/")
    coding = {
        "request_deserializer": type(dialect.request).FromString,
        "response_serializer": type(answers[0]).SerializeToString,
    }

    async def one(_: Any, __: Any) -> Any:
        return answers[0]

    async def stream(_: Any, __: Any) -> AsyncIterator[Any]:
        for answer in answers:
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


async def logged(logs: Sequence[Mapping[str, Any]], event: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if event in {entry["event"] for entry in logs}:
                return
            await asyncio.sleep(0.01)


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
        await logged(logs, "health_agent_lost")
    assert not listening.done()
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_an_agent_that_goes_on_inventing_gpus_is_told_once_and_costs_little(
    socket_path: Path,
) -> None:
    dialect, told = BY_VENDOR["nvidia"], Told()
    names = ["GPU-1", *(f"GPU-no-{number}" for number in range(3 * MAX_NAMES)), "GPU-last"]
    answers = [nvidia_answer("ADDED", "Ready", "False", name) for name in names]
    server = await serve(dialect, socket_path, *answers)
    with capture_logs() as logs:
        listener = Listener(dialect, socket_path, told)
        listening = asyncio.create_task(listener.run(lambda: DEVICES))
        for _ in names:
            faults = await asyncio.wait_for(told.sets.get(), WAIT_S)
    assert [fault.device for fault in faults] == ["GPU-1"]
    assert [e["agent"] for e in logs if e["event"] == "health_agent_crowded"] == ["nvidia.agent"]
    gc.collect()
    assert sum(isinstance(thing, Word) for thing in gc.get_objects()) <= MAX_NAMES
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_an_answer_that_is_too_long_is_not_read(socket_path: Path) -> None:
    dialect, told = BY_VENDOR["amd"], Told()
    answer = amd_answer("unhealthy")
    answer.GPUState[0].AssociatedWorkload.append("w" * MAX_ANSWER_BYTES)
    server = await serve(dialect, socket_path, answer)
    with capture_logs() as logs:
        listening = asyncio.create_task(Listener(dialect, socket_path, told).run(lambda: DEVICES))
        await logged(logs, "health_agent_lost")
    assert [entry["event"] for entry in logs] == ["health_agent_lost"]
    assert logs[0]["reason"].startswith("RESOURCE_EXHAUSTED")
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)
