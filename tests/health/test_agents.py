"""The vendors' agents on their sockets: what they say, and what their absence costs."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from msgspec import Struct
from msgspec.structs import replace
from structlog.testing import capture_logs

from deviceplugin.health.agents import (
    MAX_ANSWER_BYTES,
    MAX_NAME,
    MAX_REPORTS,
    NO_REPORTS,
    Listener,
    agent_faults,
    agent_problem,
    agents_of,
    bounded,
    usable,
)
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.pb import exporter_amd_pb2 as amd
from deviceplugin.pb import exporter_intel_pb2 as intel
from deviceplugin.pb import exporter_nvidia_pb2 as nvidia
from deviceplugin.vendor import MAX_COMPLAINTS, Agent, AgentReport, Complaint, Reports
from deviceplugin.vendors.amd.agent import EXPORTER
from deviceplugin.vendors.intel.agent import XPUMD
from deviceplugin.vendors.nvidia.agent import DEVICE_API
from tests.rig import WAIT_S

DEVICES = (
    Device(id=DeviceID("amd-1"), vendor="amd", pci_address="0000:63:00.0"),
    Device(id=DeviceID("p1"), vendor="amd", parent=DeviceID("amd-1"), pci_address="0000:63:00.0"),
    Device(id=DeviceID("0000:03:00.0"), vendor="intel", pci_address="0000:03:00.0"),
    Device(id=DeviceID("GPU-1"), vendor="nvidia", pci_address="0000:07:00.0"),
)
AGENTS = {"amd": EXPORTER, "intel": XPUMD, "nvidia": DEVICE_API}


def reports_of(vendor: str, *answers: Any, reports: Reports = NO_REPORTS) -> Reports:
    """What stands after the answers of a vendor's agent, unbounded."""
    for answer in answers:
        message = answer.SerializeToString()
        reports = usable(AGENTS[vendor].protocol.parse(message, reports))
    return reports


def faults_of(vendor: str, reports: Reports, devices: Sequence[Device] = DEVICES) -> list[Fault]:
    """The faults that reports are, of the vendor's own devices."""
    agent, own = AGENTS[vendor], [d for d in devices if d.vendor == vendor]
    return list(agent_faults(agent.source, agent.protocol, reports, own))


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
    faults = faults_of(vendor, reports_of(vendor, answer))
    assert [(fault.device, fault.kind) for fault in faults] == expected
    assert all(f.reason and f.action and f.source == AGENTS[vendor].source for f in faults)


def test_what_an_agent_invents_is_not_kept_without_end() -> None:
    reports = reports_of("nvidia", nvidia_answer("ADDED", "Ready", "False"))
    for number in range(3 * MAX_REPORTS):
        answer = nvidia_answer("ADDED", "Ready", "False", f"GPU-no-{number}")
        reports = reports_of("nvidia", answer, reports=reports)
        reports = bounded(reports, DEVICE_API.protocol, DEVICES)
    assert len(reports) == MAX_REPORTS
    assert [fault.device for fault in faults_of("nvidia", reports)] == ["GPU-1"]
    newest = Device(id=DeviceID(f"GPU-no-{number}"), vendor="nvidia")  # found after it was told
    assert [f.device for f in faults_of("nvidia", reports, [newest])] == [newest.id]


@pytest.mark.parametrize(
    ("vendor", "answer"),
    [
        (
            "amd",
            amd.GPUStateResponse(
                GPUState=[
                    {"Health": "unhealthy", "Device": f"{number:04x}:63:00.0"}
                    for number in range(2 * MAX_REPORTS)
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
                    for number in range(2 * MAX_REPORTS)
                ]
            ),
        ),
    ],
    ids=["amd", "intel"],
)
def test_of_one_long_answer_our_own_devices_are_kept(vendor: str, answer: Any) -> None:
    reports = bounded(reports_of(vendor, answer), AGENTS[vendor].protocol, DEVICES)
    assert len(reports) == MAX_REPORTS
    assert len(faults_of(vendor, reports)) == 1


def test_a_gpu_that_nothing_is_said_against_needs_no_memory() -> None:
    reports = reports_of("nvidia", nvidia_answer("ADDED", "Ready", "False"))
    well = nvidia_answer("MODIFIED", "Ready", "True")
    assert reports_of("nvidia", well, reports=reports) == {}
    assert reports_of("amd", amd_answer("healthy")) == {}
    assert reports_of("intel", intel_answer(1)) == {}


def test_of_one_gpu_some_complaints_are_kept_each_cut_to_size() -> None:
    conditions = [
        nvidia.Condition(type=f"Xid{number}" + "x" * 1000, status="True", message="m" * 10000)
        for number in range(1000)
    ]
    gpu = nvidia.Gpu(
        spec=nvidia.GpuSpec(uuid="GPU-1"), status=nvidia.GpuStatus(conditions=conditions)
    )
    reports = NO_REPORTS
    for number in range(3):  # one GPU under several names is one GPU
        gpu.metadata.name = f"name-{number}"
        answer = nvidia.WatchGpusResponse(type="ADDED", object=gpu)
        reports = reports_of("nvidia", answer, reports=reports)
    faults = faults_of("nvidia", reports)
    assert len(faults) == MAX_COMPLAINTS
    assert max(len(fault.code) + len(fault.reason) for fault in faults) < 500


def test_a_name_longer_than_any_is_not_kept() -> None:
    answer = nvidia_answer("ADDED", "Ready", "False", "G" * (MAX_NAME + 1))
    assert reports_of("nvidia", answer) == {}


def test_an_agent_speaks_of_its_own_vendors_gpus_alone() -> None:
    answer = amd.GPUStateResponse(GPUState=[{"Health": "unhealthy", "Device": "0000:03:00.0"}])
    assert faults_of("amd", reports_of("amd", answer)) == []


class LineProtocol:
    """A third party's agent: lines of a card, a code and a reason; no protobuf anywhere."""

    def parse(self, message: bytes, _: Reports) -> Reports:
        rows = [line.split(" ", 2) for line in message.decode().splitlines()]
        return {
            card: AgentReport(
                name=card,
                identity=card,
                complaints=(Complaint(code=code, reason=why, kind=FaultClass.RESET),) * 40,
            )
            for card, code, why in rows
        }

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        return [device for device in devices if device.id == identity]


NPU_AGENT = Agent(
    source="npu.agent", socket="/run/npu.sock", method="/npu.Health/Ask", protocol=LineProtocol()
)


class Npu(Struct):
    """As much of a third party's vendor as its agents need."""

    given: Any
    name: str = "npu"

    def agents(self) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("agent", "problem"),
    [
        (NPU_AGENT, None),
        (None, "not an Agent"),
        (replace(NPU_AGENT, source="nvidia.agent"), "does not start with 'npu.'"),
        (replace(NPU_AGENT, socket="run/npu.sock"), "is not an absolute path"),
        (replace(NPU_AGENT, method="npu.Health.Ask"), "is not '/package.Service/Method'"),
        (replace(NPU_AGENT, socket=None), "are not all text"),
        (replace(NPU_AGENT, stale_s=0), "its stale_s is 0"),
    ],
    ids=["right", "none", "source", "socket", "method", "text", "stale"],
)
def test_an_agent_is_listened_to_only_as_its_own_vendors(agent: Any, problem: str | None) -> None:
    told = agent_problem("npu", agent)
    assert (told is None) if problem is None else problem in str(told)
    with capture_logs() as logs:
        assert len(list(agents_of([Npu((agent,))]))) == (problem is None)  # type: ignore[list-item]  # what is needed of a vendor
    assert [e["event"] for e in logs] == (["health_agent_refused"] if problem else [])


def test_a_vendor_whose_agents_cannot_be_had_costs_itself() -> None:
    vendors: Any = [Npu(ValueError("no")), Npu((NPU_AGENT,))]
    with capture_logs() as logs:
        assert [agent for _, agent in agents_of(vendors)] == [NPU_AGENT]
    assert [entry["event"] for entry in logs] == ["plugin_function_failed"]


def test_what_a_third_partys_agent_reports_is_cut_to_size() -> None:
    message = b"card-1 " + b"c" * 500 + b" " + b"long " * 500
    reports = usable(LineProtocol().parse(message, NO_REPORTS))
    assert len(reports["card-1"].complaints) == MAX_COMPLAINTS
    card = Device(id=DeviceID("card-1"), vendor="npu")
    (fault,) = agent_faults("npu.agent", LineProtocol(), reports, [card])
    assert (len(fault.code), len(fault.reason)) == (63, 300)
    assert fault.action


@pytest.fixture
def socket_path(short_dir: Path) -> Path:
    return short_dir / "agent.sock"


class Garbage(Struct):
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


async def serve(agent: Agent, path: Path, *answers: Any) -> grpc.aio.Server:
    """An agent that says the answers, one after the other where it streams."""
    service, method = agent.method.strip("/").split("/")
    coding = {
        "request_deserializer": None,
        "response_serializer": lambda answer: answer.SerializeToString(),
    }

    async def one(_: Any, __: Any) -> Any:
        return answers[0]

    async def stream(_: Any, __: Any) -> AsyncIterator[Any]:
        for answer in answers:
            yield answer
        await asyncio.Future()

    handler = (
        grpc.unary_stream_rpc_method_handler(stream, **coding)
        if agent.streams
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
    agent, told = AGENTS[vendor], Told()
    server = await serve(agent, socket_path, answer)
    listening = asyncio.create_task(Listener(vendor, agent, socket_path, told).run(lambda: DEVICES))
    faults = await asyncio.wait_for(told.sets.get(), WAIT_S)
    assert [fault.kind for fault in faults] == [FaultClass.RESET]
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_a_report_counts_once_its_device_is_found(socket_path: Path) -> None:
    told, found = Told(), list[Device]()
    server = await serve(EXPORTER, socket_path, amd_answer("unhealthy"))
    listener = Listener("amd", EXPORTER, socket_path, told)
    listening = asyncio.create_task(listener.run(lambda: found))
    assert await asyncio.wait_for(told.sets.get(), WAIT_S) == ()
    found.extend(DEVICES)
    listener.devices_changed()
    (fault,) = told.sets.get_nowait()
    assert fault.kind is FaultClass.RESET
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to another user")
async def test_a_socket_of_another_user_is_not_listened_to(socket_path: Path) -> None:
    told, listener_told = Told(), Told()
    server = await serve(EXPORTER, socket_path, amd_answer("unhealthy"))
    os.chown(socket_path, 1000, 1000)
    listener = Listener("amd", EXPORTER, socket_path, told)
    listening = asyncio.create_task(listener.run(lambda: DEVICES))
    await asyncio.wait([listening], timeout=0.1)
    assert told.sets.empty()
    os.chown(socket_path, 0, 0)
    other = Listener("amd", EXPORTER, socket_path, listener_told)
    hearing = asyncio.create_task(other.run(lambda: DEVICES))
    assert await asyncio.wait_for(listener_told.sets.get(), WAIT_S)
    for task in (listening, hearing):
        task.cancel()
    await asyncio.wait([listening, hearing])
    await server.stop(None)


async def test_an_absent_agent_says_nothing_and_keeps_being_looked_for(socket_path: Path) -> None:
    told = Told()
    listener = Listener("amd", EXPORTER, socket_path, told)
    listening = asyncio.create_task(listener.run(lambda: DEVICES))
    await asyncio.wait([listening], timeout=0.1)
    assert not listening.done()
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])


async def test_an_agent_that_sends_something_else_is_lost_and_not_believed(
    socket_path: Path,
) -> None:
    vendor, agent, told = "intel", XPUMD, Told()
    text = intel.DeviceHealthResponse(devices=[intel.DeviceHealth()]).SerializeToString()
    server = await serve(agent, socket_path, Garbage(text + b"\xff"))
    with capture_logs() as logs:
        listener = Listener(vendor, agent, socket_path, told)
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
    vendor, agent, told = "nvidia", DEVICE_API, Told()
    names = ["GPU-1", *(f"GPU-no-{number}" for number in range(3 * MAX_REPORTS)), "GPU-last"]
    answers = [nvidia_answer("ADDED", "Ready", "False", name) for name in names]
    server = await serve(agent, socket_path, *answers)
    with capture_logs() as logs:
        listener = Listener(vendor, agent, socket_path, told, rate_s=1e-6)
        listening = asyncio.create_task(listener.run(lambda: DEVICES))
        for _ in names:
            faults = await asyncio.wait_for(told.sets.get(), WAIT_S)
    assert [fault.device for fault in faults] == ["GPU-1"]
    assert [e["agent"] for e in logs if e["event"] == "health_agent_crowded"] == ["nvidia.agent"]
    gc.collect()
    assert sum(isinstance(thing, AgentReport) for thing in gc.get_objects()) <= MAX_REPORTS
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_an_answer_that_is_too_long_is_not_read(socket_path: Path) -> None:
    vendor, agent, told = "amd", EXPORTER, Told()
    answer = amd_answer("unhealthy")
    answer.GPUState[0].AssociatedWorkload.append("w" * MAX_ANSWER_BYTES)
    server = await serve(agent, socket_path, answer)
    with capture_logs() as logs:
        listening = asyncio.create_task(
            Listener(vendor, agent, socket_path, told).run(lambda: DEVICES)
        )
        await logged(logs, "health_agent_lost")
    assert [entry["event"] for entry in logs] == ["health_agent_lost"]
    assert logs[0]["reason"].startswith("RESOURCE_EXHAUSTED")
    assert told.sets.empty()
    listening.cancel()
    await asyncio.wait([listening])
    await server.stop(None)


async def test_an_agent_that_is_gone_is_not_believed_after_its_own_time(socket_path: Path) -> None:
    agent, told = replace(XPUMD, stale_s=0.05), Told()
    server = await serve(agent, socket_path, intel_answer(3))
    listening = asyncio.create_task(
        Listener("intel", agent, socket_path, told).run(lambda: DEVICES)
    )
    assert await asyncio.wait_for(told.sets.get(), WAIT_S)
    await server.stop(None)
    assert await asyncio.wait_for(told.sets.get(), WAIT_S) == ()
    listening.cancel()
    await asyncio.wait([listening])
