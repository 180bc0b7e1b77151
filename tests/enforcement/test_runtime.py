"""Limits that the container runtime sets before a container's first instruction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deviceplugin.enforcement.nri import Session
from deviceplugin.enforcement.regions import annotation_of, limits_of
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.enforcement.wire import (
    PLUGIN,
    Message,
    Messages,
    NriError,
    frame,
    parse_trunk,
)
from deviceplugin.vendor import Grant
from tests.enforcement.builders import CARD, GPU, World, share_of
from tests.enforcement.kernel import AMD, CAPACITY, GIB, TILES, KernelTree
from tests.enforcement.runtime import Runtime, StartError
from tests.rig import WAIT_S

UID = "6f1c0a4e-3c0b-4c51-9d0e-8a2f4a1b2c3d"
POD = ("ml", "train", UID)
FOUR = {"memory.deviceplugin/amd.com_gpu-memory": f"{AMD} {4 * GIB}"}


def path_of(number: int) -> str:
    return f"kubepods/burstable/pod{UID}/{number:064x}"


@pytest.fixture
def kernel(short_dir: Path) -> KernelTree:
    kernel = KernelTree(short_dir / "sys/fs/cgroup")
    kernel.make("kubepods/burstable")
    kernel.tree.enable()
    return kernel


@pytest.fixture
async def runtime(short_dir: Path, kernel: KernelTree) -> AsyncIterator[Runtime]:
    runtime = Runtime(short_dir / "var/run/nri/nri.sock", kernel)
    await runtime.start()
    yield runtime
    await runtime.stop()


@asynccontextmanager
async def enforcing(
    world: World, runtime: Runtime, section: EnforcementSection | None = None
) -> AsyncIterator[None]:
    """From the moment at which the runtime asks."""
    enforcer = world.enforcer(section or EnforcementSection(memory="nri"))
    task = asyncio.create_task(enforcer.run())
    try:
        async with asyncio.timeout(WAIT_S):
            await runtime.registered.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_the_limit_is_there_before_the_first_instruction(
    short_dir: Path, runtime: Runtime
) -> None:
    async with enforcing(world := World(short_dir), runtime):
        made = await runtime.create(path_of(1), FOUR, POD)
        limits = runtime.kernel.tree.limits(made.cgroup) or {}
        assert limits[AMD] == 4 * GIB
        assert world.enforced.devices == {GPU.id, CARD.id}
    assert runtime.events == 1 << 3


async def test_a_container_without_slices_is_left_alone(short_dir: Path, runtime: Runtime) -> None:
    async with enforcing(World(short_dir), runtime):
        made = await runtime.create(path_of(1), {"other": "thing"}, POD)
        assert (runtime.kernel.tree.limits(made.cgroup) or {})[AMD] is None


async def test_a_minimum_is_set_beside_the_limit_where_it_is_wanted(
    short_dir: Path, runtime: Runtime
) -> None:
    async with enforcing(World(short_dir), runtime, EnforcementSection(memory="nri", minimum=True)):
        made = await runtime.create(path_of(1), FOUR, POD)
        assert f"{AMD} {4 * GIB}\n" in (made.cgroup / "dmem.min").read_text()


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"memory.deviceplugin/x": "drm/0000:99:00.0/vram 4096"}, "no region drm/0000:99:00.0"),
        ({"memory.deviceplugin/x": "all of it"}, "is not a limit for each region"),
    ],
    ids=["a GPU that is gone", "an annotation of somebody else"],
)
async def test_a_limit_that_cannot_be_set_ends_the_start_or_warns(
    short_dir: Path, runtime: Runtime, annotations: dict[str, str], text: str
) -> None:
    async with enforcing(World(short_dir), runtime):
        with pytest.raises(StartError, match=f"memory limit of its slices cannot be set: .*{text}"):
            await runtime.create(path_of(1), annotations, POD)
    runtime.registered.clear()
    warn = EnforcementSection(memory="nri", failure="warn")
    async with enforcing(World(short_dir), runtime, warn):
        assert (await runtime.create(path_of(2), annotations, POD)).cgroup.exists()


async def test_what_was_started_while_nobody_asked_is_limited_afterwards(
    short_dir: Path, runtime: Runtime
) -> None:
    """Also in several parts, as a runtime with many containers sends them."""
    runtime.chunk = 2
    made = [await runtime.create(path_of(n), FOUR, POD) for n in range(5)]
    world = World(short_dir)
    async with enforcing(world, runtime):
        for one in made:
            assert (runtime.kernel.tree.limits(one.cgroup) or {})[AMD] == 4 * GIB


async def test_a_runtime_that_ends_takes_the_promise_with_it_until_it_is_back(
    short_dir: Path, runtime: Runtime
) -> None:
    world = World(short_dir)
    async with enforcing(world, runtime):
        await runtime.stop()
        async with asyncio.timeout(WAIT_S):
            await world.kept.until(lambda kept: not kept.devices)
        assert "does not serve" in world.enforced.reasons[GPU.id]
        await runtime.lost.wait()
        await runtime.start()
        async with asyncio.timeout(WAIT_S):
            await runtime.registered.wait()
        assert world.enforced.devices


def test_tiles_share_the_slices_of_their_card_in_proportion() -> None:
    grant = Grant(device=CARD, share=share_of(CARD), count=6, memory_bytes=6 * GIB)
    assert limits_of([grant], CAPACITY) == {TILES[0]: 3 * GIB, TILES[1]: 3 * GIB}


def test_shares_of_several_gpus_have_limits_each() -> None:
    grants = [
        Grant(device=GPU, share=share_of(GPU), count=1, memory_bytes=GIB),
        Grant(device=CARD, share=share_of(CARD), count=2, memory_bytes=2 * GIB),
    ]
    limits = limits_of(grants, CAPACITY)
    assert limits == {AMD: GIB, TILES[0]: GIB, TILES[1]: GIB}
    (text,) = annotation_of("amd.com/gpu-memory", limits).values()
    assert text.splitlines() == [f"{r} {GIB}" for r in sorted(limits)]


def test_messages_are_whole_wherever_frames_end() -> None:
    data = frame(PLUGIN, Message(7, 1, b"abc")) + frame(PLUGIN, Message(9, 1, b""))
    parser, found = Messages(), []
    for byte in data[8:21] + data[29:]:
        found += list(parser.take(bytes([byte])))
    assert found == [Message(7, 1, b"abc"), Message(9, 1, b"")]


def test_a_frame_that_is_too_large_is_an_error() -> None:
    with pytest.raises(NriError, match="at most"):
        parse_trunk(b"\0\0\0\1\x7f\xff\xff\xff")
    with pytest.raises(NriError, match="at most"):
        list(Messages().take(b"\x7f\xff\xff\xff\0\0\0\1\1\0"))


async def test_a_socket_of_something_else_is_an_error(short_dir: Path) -> None:
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(nonsense, short_dir / "x.sock")
    enforcer = World(short_dir).enforcer(EnforcementSection(memory="nri"))
    with pytest.raises(NriError):
        await Session(enforcer, asyncio.Event().wait, minimum=False).run(short_dir / "x.sock")
    server.close()
