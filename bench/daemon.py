"""The daemon as a process: start, registration, Allocate, memory and idle CPU.

The node is the tests' C double of NVML, without event support: the double polls for events, a
real driver does not, and its cost would be counted as ours.
"""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import psutil
from msgspec.structs import replace

from bench.nodes import SHIPPED
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.amd import MI300X, SimulatedGpu, amd_tree
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, DaemonProcess, Rig, nvidia_node

STARTS = 7
RESTARTS = 20
CALLS = 5000
SETTLE_S = 10.0  # gRPC's threads come to rest
IDLE_S = 30.0
ALL = 4
CONFIG = "amd: {resource_naming: single}"

Row = tuple[str, str, str]


async def measure() -> list[Row]:
    """All rows: what, figure, target."""
    rows = [await _starts()]
    async with _serving() as (rig, daemon):
        rows.append(await _restarts(rig))
        rows += await asyncio.to_thread(_calls, rig)
        rows += await _idle(daemon, "8 GPUs")
    async with _serving(_three_vendors, ALL + 3) as (_, daemon):
        rows += await _idle(daemon, "three vendors, 64 partitions")
    return [*rows, await _bare_idle()]


@contextmanager
def _rig(more: Callable[[Path], None] = lambda _: None) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        rig = Rig(Path(directory))
        _without_events(nvidia_node(rig))
        more(rig.host_root)
        yield rig
        for daemon in rig.daemons:
            daemon.kill()


def _without_events(double: NvmlDouble) -> None:
    double.update(
        lambda scenario: replace(
            scenario, gpus=tuple(replace(gpu, event_types=None) for gpu in scenario.gpus)
        )
    )


def _three_vendors(root: Path) -> None:
    """Eight MI300X in eight partitions each, and a B60 with six virtual functions."""
    gpus = [
        SimulatedGpu(
            address=f"0000:{16 * (5 + n):02x}:00.0",
            model=MI300X,
            unique_id=f"e3aa140f9a5f9e3{n}",
            mode="CPX",
            memory_mode="NPS4",
        )
        for n in range(8)
    ]
    write_tree(root, amd_tree(gpus))
    b60 = replace(B60, address="0000:d4:00.0", card=160, render=250, group=300)
    write_intel_node(root, b60)
    set_vfs(root, b60, 6, 4 << 30, ["xe"] * 4 + ["vfio-pci"] * 2)


@asynccontextmanager
async def _serving(
    more: Callable[[Path], None] = lambda _: None, resources: int = ALL
) -> AsyncIterator[tuple[Rig, DaemonProcess]]:
    with _rig(more) as rig:
        await rig.stub.start()
        config = rig.config(CONFIG)
        daemon = rig.start("--config", str(config), **SHIPPED)
        await _listed(rig, resources)
        yield rig, daemon
        await rig.stub.aclose()


async def _listed(rig: Rig, resources: int = ALL) -> None:
    await rig.stub.wait_for(lambda: len(rig.stub.allocatable()) == resources, timeout_s=20)
    await rig.stub.wait_for(lambda: all(rig.stub.allocatable().values()), timeout_s=20)


async def _starts() -> Row:
    """From the start of the process to the last of the four complete lists."""
    spent = []
    for _ in range(STARTS):
        with _rig() as rig:
            await rig.stub.start()
            started = time.perf_counter()
            rig.start(**SHIPPED)
            await _listed(rig)
            spent.append(time.perf_counter() - started)
            await rig.stub.aclose()
    return ("start to complete lists, median", f"{statistics.median(spent):.2f} s", "< 0.4 s")


async def _restarts(rig: Rig) -> Row:
    """From the appearance of the kubelet's socket to all four resources listed again."""
    spent = []
    for _ in range(RESTARTS):
        await rig.stub.restart(down_s=0.2)
        await _listed(rig)
        spent.append(time.monotonic() - (rig.stub.started_at_s or 0.0))
    median, worst = statistics.median(spent), max(spent)
    figure = f"{1000 * median:.1f} ms, worst {1000 * worst:.1f} ms"
    return (f"registered again after a kubelet restart, median of {RESTARTS}", figure, "< 50 ms")


def _calls(rig: Rig) -> list[Row]:
    path = rig.stub.socket_dir / "deviceplugin" / f"{GPU.replace('/', '_')}.sock"
    ids = sorted(rig.stub.devices(GPU))
    ours = _time_allocate(f"unix:{path}", ids)
    with _echo(rig.root / "echo.sock") as (address, _):
        echo = _time_allocate(address, ids)
    rows = []
    for name, quantile, target in (("p50", 0.50, "< 1.3 x"), ("p99", 0.99, "< 2 x")):
        mine, bare = _quantile(ours, quantile), _quantile(echo, quantile)
        figure = f"{1000 * mine:.2f} ms ({mine / bare:.2f} x a bare grpc.aio echo)"
        rows.append((f"Allocate {name} over {CALLS} calls", figure, target))
    return rows


def _time_allocate(address: str, ids: Sequence[str]) -> list[float]:
    with grpc.insecure_channel(address) as channel:
        allocate = channel.unary_unary(
            "/v1beta1.DevicePlugin/Allocate",
            request_serializer=pluginapi.AllocateRequest.SerializeToString,
            response_deserializer=pluginapi.AllocateResponse.FromString,
        )
        spent = []
        for number in range(CALLS + 200):
            request = pluginapi.AllocateRequest()
            request.container_requests.add(devices_ids=[ids[number % len(ids)]])
            started = time.perf_counter()
            allocate(request)
            spent.append(time.perf_counter() - started)
    return spent[200:]


@contextmanager
def _echo(socket: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server process that answers the same message without doing anything."""
    spawned = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    server = spawned.Process(target=_serve_echo, args=(f"unix:{socket}",))
    server.start()
    while not socket.exists():
        time.sleep(0.01)
    yield f"unix:{socket}", psutil.Process(server.pid)
    server.terminate()
    server.join()


def _serve_echo(address: str) -> None:
    answer = pluginapi.AllocateResponse()
    answer.container_responses.add().envs["NVIDIA_VISIBLE_DEVICES"] = "GPU-" + "0" * 36

    async def allocate(_: object, __: object) -> pluginapi.AllocateResponse:
        return answer

    async def serve() -> None:
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(
            allocate,
            request_deserializer=pluginapi.AllocateRequest.FromString,
            response_serializer=pluginapi.AllocateResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", {"Allocate": method}),)
        )
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


async def _idle(daemon: DaemonProcess, node: str) -> list[Row]:
    process = psutil.Process(daemon.process.pid)
    idle = await _idle_cpu(process, node, "< 0.2 %")
    memory = process.memory_full_info()
    figure = f"{memory.rss / (1 << 20):.1f} MiB, {memory.uss / (1 << 20):.1f} MiB its own alone"
    return [(f"resident memory, {node}", figure, "< 45 MiB"), idle]


async def _bare_idle() -> Row:
    """What gRPC needs by itself: a server with one client that asks nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="b") as directory,
        _echo(Path(directory) / "s") as (address, process),
        grpc.insecure_channel(address) as channel,
    ):
        await asyncio.to_thread(grpc.channel_ready_future(channel).result)
        return await _idle_cpu(process, "a bare grpc.aio server with one client", "")


async def _idle_cpu(process: psutil.Process, what: str, target: str) -> Row:
    await asyncio.sleep(SETTLE_S)
    before = processor_s(process)
    await asyncio.sleep(IDLE_S)
    busy = (processor_s(process) - before) / IDLE_S
    return (f"idle CPU over {IDLE_S:.0f} s, {what}", f"{100 * busy:.2f} % of a core", target)


def processor_s(process: psutil.Process) -> float:
    """Of all threads, from the scheduler's own books: the clock of cpu_times() ticks in 10 ms."""
    books = [Path(f"/proc/{process.pid}/task/{t.id}/schedstat") for t in process.threads()]
    return sum(int(book.read_text().split()[0]) for book in books) / 1e9


def _quantile(values: Sequence[float], quantile: float) -> float:
    return sorted(values)[int(quantile * (len(values) - 1))]
