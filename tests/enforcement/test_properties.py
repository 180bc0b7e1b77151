"""Whatever pods come and go, and whoever is restarted: limits are whole, and gone with containers.

Pods come by the ids of slices that nobody holds, as the kubelet gives them; the limit of each is
made as an Allocate makes it, and the runtime asks whoever is connected.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.enforcement.regions import annotation_of, limits_of
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.vendor import Grant
from tests.enforcement.builders import CARD, GPU, World, share_of
from tests.enforcement.kernel import CAPACITY, GIB, KernelTree
from tests.enforcement.runtime import Runtime, StartError
from tests.rig import WAIT_S

DEVICES = (GPU, CARD)
Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(0, 1), st.integers(1, 24)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.sampled_from(["kill", "start"]), st.just(0), st.just(0)),
    ),
    max_size=14,
)


class Node:
    """A runtime that makes no container without its plugin, and a daemon that is killed."""

    def __init__(self, root: Path) -> None:
        self.kernel = KernelTree(root / "sys/fs/cgroup")
        self.kernel.make("kubepods/burstable")
        self.kernel.tree.enable()
        self.runtime = Runtime(root / "var/run/nri/nri.sock", self.kernel, required=True)
        self.world = World(root)
        self.free = {device.id: share_of(device).count for device in DEVICES}
        self.pods: dict[str, tuple[int, int]] = {}
        self.number = 0
        self.daemon: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The daemon, until the runtime asks it."""
        if self.daemon is None:
            enforcer = self.world.enforcer(EnforcementSection(memory="nri"), self.kernel.tree)
            self.daemon = asyncio.create_task(enforcer.run())
            async with asyncio.timeout(WAIT_S):
                await self.runtime.registered.wait()

    async def kill(self) -> None:
        """The connection ends wherever it is."""
        if self.daemon is not None:
            self.daemon.cancel()
            await asyncio.wait({self.daemon})
            self.daemon = None
            async with asyncio.timeout(WAIT_S):
                await self.runtime.lost.wait()

    async def create(self, which: int, count: int) -> None:
        """A pod with so many slices, if so many are free; without the daemon it does not start."""
        device = DEVICES[which]
        if count > self.free[device.id]:
            return
        share = share_of(device)
        grant = Grant(device=device, share=share, count=count, memory_bytes=count * GIB)
        annotations = annotation_of("amd.com/gpu-memory", limits_of([grant], CAPACITY))
        self.number += 1
        uid = f"00000000-0000-0000-0000-{self.number:012d}"
        path = f"kubepods/burstable/pod{uid}/{self.number:064x}"
        try:
            await self.runtime.create(path, annotations, ("ml", f"pod-{self.number}", uid))
        except StartError:
            assert self.daemon is None
            return
        self.free[device.id] -= count
        self.pods[path] = (which, count)

    def remove(self, number: int) -> None:
        """A pod ends."""
        if self.pods:
            path = sorted(self.pods)[number % len(self.pods)]
            which, count = self.pods.pop(path)
            self.free[DEVICES[which].id] += count
            self.runtime.remove(path)

    def check(self) -> None:
        """What must hold after every step."""
        total = dict.fromkeys(CAPACITY, 0)
        cgroups = self.kernel.tree.containers()
        assert len(cgroups) == len(self.pods)
        for cgroup in cgroups.values():
            limits = self.kernel.tree.limits(cgroup)
            assert limits is not None
            limited = {region: size for region, size in limits.items() if size is not None}
            assert limited, "a container runs a slice without its limit"
            for region, size in limited.items():
                total[region] += size
        assert all(total[region] <= CAPACITY[region] for region in CAPACITY)


async def lived(steps: Sequence[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        await node.runtime.start()
        await node.start()
        try:
            for verb, first, second in steps:
                if verb == "create":
                    await node.create(first, second)
                elif verb == "remove":
                    node.remove(first)
                else:
                    await (node.kill() if verb == "kill" else node.start())
                node.check()
        finally:
            await node.kill()
            await node.runtime.stop()


@settings(max_examples=40)
@given(STEPS)
def test_limits_never_exceed_a_gpu_nor_outlive_nor_miss_a_container(steps: Sequence[Step]) -> None:
    asyncio.run(lived(steps))
