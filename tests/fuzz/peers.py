"""What others say on sockets: operators, the kubelet's PodResources, agents, HTTP clients."""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import grpc
import grpc.aio

from deviceplugin.discovery.values import fault_problem
from deviceplugin.health.agents import MAX_REPORTS, NO_REPORTS, agent_faults, bounded, usable
from deviceplugin.health.operations import MAX_REASON, HealthOperations
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.model import Device, DeviceID
from deviceplugin.pb import podresources_v1_pb2 as podresources
from deviceplugin.resources.ledger import HoldersUnknownError, Ledger
from deviceplugin.runtime.control import FILE, Control, ControlError, ask_daemon
from tests.fuzz.loop import at_the_end, run
from tests.fuzz.surface import Source, Surface, is_line
from tests.health.test_agents import AGENTS, DEVICES, amd_answer, intel_answer, nvidia_answer

GPU = Device(id=DeviceID("GPU-a"), vendor="nvidia", pci_address="0000:07:00.0")


def control(data: bytes) -> None:
    """The operator's socket: one line back, ours or a refusal; only devices are cordoned."""
    folder, desk = _door()
    answer = run(_say(folder / FILE, data))
    assert answer.endswith(b"\n")
    said = json.loads(answer)
    assert said["ok"] in (True, False)
    assert said["ok"] or is_line(said["error"])
    cordons = desk.records.value.cordons
    assert cordons.keys() <= {GPU.id}
    assert all(0 < len(c.reason) <= MAX_REASON and is_line(c.reason) for c in cordons.values())
    health = json.loads(run(_say(folder / FILE, b'{"operation": "health"}\n')))
    assert [device["id"] for device in health["devices"]] == [GPU.id]


async def _say(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@cache
def _door() -> tuple[Path, FaultTracker]:
    store = InventoryStore(lambda: 100.0, HealthSection())
    store.set_devices("nvidia", [GPU])
    folder = Path(tempfile.mkdtemp(prefix="c"))
    return folder, run(_open(folder, store))


async def _open(folder: Path, store: InventoryStore) -> FaultTracker:
    desk = FaultTracker(store, FaultPolicy(), "boot")
    control = Control(HealthOperations(store, desk).table())
    serving = asyncio.create_task(control.serve(folder))
    await control.listening.wait()

    async def close() -> None:
        serving.cancel()
        await asyncio.wait([serving])
        shutil.rmtree(folder)

    at_the_end(close)
    return desk


def control_answers(data: bytes) -> None:
    """What a command takes for the daemon's answer."""
    with tempfile.TemporaryDirectory(prefix="c") as name, socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(f"{name}/{FILE}")
        daemon.listen(1)
        answering = threading.Thread(target=_answer, args=(daemon, data))
        answering.start()
        try:
            answer = ask_daemon(Path(name), {"operation": "health"})
            assert json.loads(data) == {"ok": json.loads(data)["ok"], **answer}
        except ControlError as error:
            assert is_line(str(error)), str(error)
        finally:
            answering.join()


def _answer(daemon: socket.socket, data: bytes) -> None:
    peer, _ = daemon.accept()
    with peer:
        peer.recv(1 << 12)
        peer.sendall(data)


class _Kubelet:
    """Answers PodResources with `data`."""

    data = b""

    async def serve(self) -> PodResources:
        path = Path(tempfile.mkdtemp(prefix="k")) / "s"
        method = grpc.unary_unary_rpc_method_handler(self._say)
        names = {"List": method, "Get": method}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", names),)
        )
        server.add_insecure_port(f"unix:{path}")
        await server.start()

        api = PodResources(path)

        async def stop() -> None:
            await api.forget()
            await server.stop(None)
            shutil.rmtree(path.parent)

        at_the_end(stop)
        return api

    async def _say(self, _: bytes, __: object) -> bytes:
        return self.data


@cache
def _kubelet() -> tuple[_Kubelet, PodResources]:
    kubelet = _Kubelet()
    return kubelet, run(kubelet.serve())


def pod_resources(data: bytes) -> None:
    """Holders are known or not; nobody holds what the answer does not say."""
    kubelet, api = _kubelet()
    kubelet.data = data
    try:
        answer = run(api.read_reply())
    except HoldersUnknownError as error:
        assert is_line(str(error)), str(error)
    else:
        said = podresources.ListPodResourcesResponse.FromString(data).pod_resources
        assert answer.pods == {(pod.namespace, pod.name) for pod in said}
        ledger = Ledger(lambda: 1.0)
        ledger.observe(answer, 1.0)
        assert set(ledger.entries) == {(h.resource, h.id) for h in answer.holdings}
        assert sum(map(len, ledger.holders.values())) <= len(answer.holdings)
        assert {(h.holder.namespace, h.holder.pod) for h in answer.holdings} <= answer.pods
    try:
        holdings = run(api.read_pod("default", "pod"))
    except HoldersUnknownError as error:
        assert is_line(str(error)), str(error)
    else:
        pod = podresources.GetPodResourcesResponse.FromString(data).pod_resources
        assert all(holding.holder.pod == pod.name for holding in holdings)


def agents(data: bytes) -> None:
    """Several answers of an agent, one after the other: faults of our devices only, fit to be
    told."""
    source = Source(data)
    vendor, agent = source.choice(tuple(AGENTS.items()))
    own = [device for device in DEVICES if device.vendor == vendor]
    reports = NO_REPORTS
    for part in source.rest().split(b"\xff\xff\xff\xff"):
        try:
            reports = usable(agent.protocol.parse(part, reports))
        except ValueError:
            return
        reports = bounded(reports, agent.protocol, own)
        assert len(reports) <= MAX_REPORTS
        for fault in agent_faults(agent.source, agent.protocol, reports, own):
            assert fault_problem(fault) is None
            assert fault.source == agent.source
            assert fault.device in {device.id for device in own}
            assert is_line(fault.code, 63)
            assert is_line(fault.reason, 400)
        assert agent_faults(agent.source, agent.protocol, reports, ()) == ()


def _pods(*ids: str) -> podresources.PodResources:
    devices = podresources.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=ids)
    devices.topology.nodes.add(ID=1)
    container = podresources.ContainerResources(name="main", devices=[devices])
    return podresources.PodResources(name="pod", namespace="default", containers=[container])


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"\xff\xff\xff\xff".join(parts)


LISTED = podresources.ListPodResourcesResponse(pod_resources=[_pods("a", "b")]).SerializeToString()
GOT = podresources.GetPodResourcesResponse(pod_resources=_pods("a")).SerializeToString()
SAID = (
    b"\0" + _joined([amd_answer("unhealthy").SerializeToString()] * 2),
    b"\1" + intel_answer(3).SerializeToString(),
    b"\2"
    + _joined(
        [
            nvidia_answer("ADDED", "Ready", "False").SerializeToString(),
            nvidia_answer("MODIFIED", "Xid\n\x1b[1m", "True").SerializeToString(),
            nvidia_answer("DELETED", "Ready", "False").SerializeToString(),
        ]
    ),
)
SURFACES = {
    "control": Surface(
        target=control,
        seeds=(
            b'{"operation": "cordon", "device": "GPU-a", "reason": "new  paste"}\n',
            b'{"operation": "cordon", "device": "0000:07:00.0", "reason": "\\u001b[1m\\nx"}\n',
            b'{"operation": "uncordon", "device": "GPU-a"}\n',
            b'{"operation": "forget", "device": "x\\ny"}\n',
            b'{"operation": ' + b"[" * 4000 + b"\n",
            b'{"a\\nb": 1}\n',
            b"x" * 20000,
            b"",
        ),
        words=(
            b'"operation":',
            b'"device":',
            b'"reason":',
            b'"\\ud800"',
            b"\n",
            b"{",
            b"}",
            b"[",
            b'"health"',
            b'"cordon"',
            b",",
            b"null",
            b"\x00",
            b"\xff",
            b"1e999",
        ),
    ),
    "control_answers": Surface(
        target=control_answers,
        seeds=(
            b'{"ok": true, "a": 1}\n',
            b'{"ok": false, "error": "a\\nb"}',
            b"[]",
            b"[" * 200000,
            b"",
            b"1",
            b'{"ok": true, "a": ' + b"9" * 5000 + b"}",
        ),
        words=(b'"ok":', b"true", b'"error":', b"{", b"}", b"[", b",", b"null", b"\xff"),
        examples=60,
    ),
    "pod_resources": Surface(
        target=pod_resources,
        seeds=(LISTED, GOT, b"", b"\xff\xff"),
        words=(b"\x0a", b"\x12", b"\x1a", b"\1a", b"\3pod", b"\xff", b"\x80"),
    ),
    "agents": Surface(
        target=agents,
        seeds=SAID,
        words=(
            *(b"\x0a", b"\x12", b"\x1a", b"\x22", b"\xff\xff\xff\xff", b"\5GPU-1", b"\1\n"),
            *(b"\x0c0000:63:00.0", b"\5Ready", b"\5False", b"\x18\4"),
        ),
    ),
}
