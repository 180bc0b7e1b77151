"""Who does what to the node and its daemon, each on its own, all at once."""

import asyncio
import contextlib
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from deviceplugin.runtime.control import ask_daemon
from deviceplugin.testing.pods import AdmissionError
from tests.fakes.nvml import gpu_uuid
from tests.rig import DaemonProcess, Rig, fetch
from tests.soak.node import CUTS, HOT, STEADY, VFS, SoakNode, configurations, configured
from tests.soak.watch import Watch

WIPES: tuple[Literal["sockets", "directory"], ...] = ("sockets", "directory")
PODS = 24
PATIENCE_S = 120.0
# Refusals that this much at once makes; whatever else a pod is told is a defect.
EXPECTED = re.compile(
    "not enough free devices|no healthy devices|no longer healthy|unregistered|has been stopped"
    "|unknown device plugin|in.use.as|is [uU]nhealthy|not listed|gone|Unavailable|Canceled"
    "|maximum request size|the free ones are spread over|does not tell which form"
    "|does not exist on the node"
)
Act = Callable[[random.Random], Awaitable[None]]


class Scene:
    """What the actors act on, and what they did: counts, and seconds that recoveries took."""

    def __init__(self, rig: Rig, node: SoakNode, watch: Watch) -> None:
        self.rig, self.node, self.watch = rig, node, watch
        self.daemon: DaemonProcess
        self.done: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.took: dict[str, list[float]] = {}
        self.up = True
        self.restarting, self.ended = asyncio.Lock(), asyncio.Event()
        self.pods = 0
        self.running: set[str] = set()
        self.given = ""
        self.addresses: dict[Path, str] = {}

    def start(self) -> None:
        """A daemon with the node's configuration."""
        self.given = configured()
        self.daemon = self.rig.start("--config", str(self.rig.config(self.given)))
        self.watch.follow(self.daemon.log_path)
        self.up = True

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()

    async def play(self, name: str, act: Act, dice: random.Random, pause_s: float) -> None:
        """`act` again and again, about `pause_s` apart, until the end."""
        while not self.ended.is_set():
            await self.pause(dice.uniform(0, 2 * pause_s))
            await act(dice)
            self.done[name] += 1

    def timed(self, name: str, seconds: float) -> None:
        """Note how long something took."""
        self.took.setdefault(name, []).append(seconds)


def cast(scene: Scene, *, kills: bool) -> list[tuple[str, Act, float]]:
    """Who acts: name, deed, seconds between deeds."""
    actors: list[tuple[str, Act, float]] = [
        *((f"pods {n}", partial(pods, scene), 0.1) for n in range(3)),
        ("kubelet restarts", partial(restart_kubelet, scene), 6.0),
        ("streams dropped", partial(drop_stream, scene), 4.0),
        ("NVIDIA GPUs lost and back", partial(lose, scene), 3.0),
        ("AMD and Intel GPUs hot and cool", partial(heat, scene), 4.0),
        ("XIDs that take a GPU away", partial(xid, scene), 5.0),
        ("floods of 300 events", partial(flood, scene), 2.0),
        ("layouts of GPUs changed", partial(cut, scene), 6.0),
        ("configurations given", partial(reload, scene), 5.0),
        *((f"scrapes {n}", partial(scrape, scene, n), 0.2) for n in range(4)),
    ]
    return [*actors, ("daemons killed", partial(kill, scene), 20.0)] if kills else actors


async def pods(scene: Scene, dice: random.Random) -> None:
    """A pod comes, or some pod goes."""
    stub = scene.rig.stub
    if scene.running and dice.random() < len(scene.running) / PODS:
        pod = dice.choice(sorted(scene.running))
        scene.running.remove(pod)
        stub.remove_pod(pod)
        return
    resources = sorted(stub.allocatable())
    if not resources:
        return
    wanted = {name: dice.randint(1, 2) for name in dice.sample(resources, dice.choice((1, 1, 2)))}
    scene.pods += 1
    pod = f"pod-{scene.pods}"
    try:
        admission = await stub.admit(pod, {"main": wanted})
    except AdmissionError as error:
        found = EXPECTED.search(str(error))
        scene.refusals[found[0] if found else str(error)] += 1
        if found is None:
            scene.watch.breaks(f"a pod was told: {error}")
    else:
        scene.running.add(pod)
        scene.done["allocations"] += len(admission.allocations)
        for allocation in admission.allocations:
            scene.timed("Allocate", allocation.elapsed_s)


async def restart_kubelet(scene: Scene, dice: random.Random) -> None:
    """A new kubelet, with either way of wiping; no running pod may be killed by it."""
    stub = scene.rig.stub
    async with scene.restarting:
        wipe = dice.choice(WIPES)
        await stub.restart(wipe, down_s=dice.uniform(0, 0.5))
        await stub.wait_registered(*STEADY, timeout_s=PATIENCE_S)
        first = [stub.log.first_list_at_s[name] for name in STEADY]
        scene.timed("kubelet restart to lists", max(first) - (stub.started_at_s or 0.0))
        killed = await stub.readmit_all()
    if killed:
        scene.watch.breaks(f"pods killed by a kubelet restart: {killed}")


async def drop_stream(scene: Scene, dice: random.Random) -> None:
    """The kubelet drops one plugin, which has to come back by itself."""
    stub, name = scene.rig.stub, dice.choice(STEADY)
    async with scene.restarting:
        before = len(stub.registrations)
        scene.watch.disconnects[name] += 1
        started = time.monotonic()
        await stub.disconnect(name)
        await registered(scene, [name], before)
        scene.timed("stream dropped to registration", time.monotonic() - started)


async def registered(scene: Scene, names: Iterable[str], before: int) -> None:
    """Wait until each is registered once more than when there were `before` registrations."""
    stub, wanted = scene.rig.stub, set(names)
    await stub.wait_for(
        lambda: wanted <= {entry.resource for entry in stub.registrations[before:]},
        PATIENCE_S,
        f"registration of {sorted(wanted)}",
    )


async def listed_anew(scene: Scene, before: int) -> None:
    """Wait until no list of a resource that is registered now is older than its registration."""
    stub = scene.rig.stub
    names = {entry.resource for entry in stub.registrations[before:]}
    await stub.wait_for(
        lambda: all(stub.live_streams(n) and n in stub.log.first_list_at_s for n in names),
        PATIENCE_S,
        f"lists of {sorted(names)}",
    )


async def lose(scene: Scene, dice: random.Random) -> None:
    """NVML loses a whole GPU, which answers again after a while."""
    gpu = dice.choice((0, 1, 3, 4, 5))
    scene.node.nvml.lose(gpu)
    await scene.pause(dice.uniform(0, 8))
    scene.node.nvml.recover(gpu)


async def heat(scene: Scene, dice: random.Random) -> None:
    """A GPU of another vendor is too hot for a while."""
    address = dice.choice(sorted(HOT))
    scene.node.heat(address, 106)
    await scene.pause(dice.uniform(0, 8))
    scene.node.heat(address, 60)


async def xid(scene: Scene, dice: random.Random) -> None:
    """An event that takes GPU 2 away until an operator says that it is well."""
    scene.node.nvml.raise_event(2, xid=95)
    await scene.pause(dice.uniform(0.1, 4))
    await forget(scene)


async def forget(scene: Scene) -> None:
    """Tell the daemon that GPU 2 is well, if there is a daemon."""
    request = {"operation": "forget", "device": gpu_uuid(2)}
    async with scene.restarting:
        await asyncio.to_thread(ask_daemon, scene.rig.state_dir, request)


async def flood(scene: Scene, dice: random.Random) -> None:
    """Many events of a kind that takes nothing away."""
    for _ in range(300):
        scene.node.nvml.raise_event(dice.randrange(6), xid=13)


async def cut(scene: Scene, dice: random.Random) -> None:
    """An administrator divides a GPU anew."""
    node = scene.node
    change: Callable[[], None] = dice.choice(
        (
            partial(node.cut_nvidia, dice.choice(CUTS)),
            partial(node.switch_amd, dice.choice(("CPX", "SPX"))),
            partial(node.cut_intel, dice.choice(VFS)),
        )
    )
    change()


async def reload(scene: Scene, dice: random.Random) -> None:
    """Another configuration, taken or refused as it deserves, seen by inotify or told by SIGHUP."""
    text, good = dice.choice(sorted(configurations(dice).items()))
    hup = text == scene.given or dice.random() < 0.5  # the same again is told only on demand
    await configure(scene, text, good=good, hup=hup)


async def configure(scene: Scene, text: str, *, good: bool, hup: bool) -> None:
    """Give a configuration and wait for the daemon's word on it."""
    words = (
        ("configuration_reloaded", "configuration_unchanged")
        if good
        else ("configuration_refused",)
    )
    async with scene.restarting:
        before = sum(scene.watch.events[word] for word in words)
        started = time.monotonic()
        scene.given = text
        scene.rig.config(text)
        if hup:
            scene.daemon.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while sum(scene.watch.events[word] for word in words) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # nothing tells of a line in a log
        scene.timed("configuration to the daemon's word", time.monotonic() - started)


async def scrape(scene: Scene, client: int, dice: random.Random) -> None:
    """Ask the HTTP endpoint; /healthz has to say 200 whatever goes on."""
    daemon = scene.daemon
    path = dice.choice(("/metrics", "/healthz", "/readyz"))
    try:
        status, text = await asked(scene, daemon, path)
        if path == "/healthz" and status == 503:  # as after a standstill of two seconds
            status, text = await asked(scene, daemon, path)
    except OSError as error:
        if scene.up and daemon is scene.daemon:
            scene.watch.breaks(f"{path}: {error}")
        return
    if path != "/readyz" and status != 200:
        scene.watch.breaks(f"{path} answers {status}: {text[:200]}")
    if path == "/metrics":
        scene.watch.scraped(daemon.log_path, client, text)


async def asked(scene: Scene, daemon: DaemonProcess, path: str) -> tuple[int, str]:
    """As `daemon.http`, without reading all of a long log each time."""
    if daemon.log_path not in scene.addresses:
        event = await daemon.wait_event("metrics_served")
        scene.addresses[daemon.log_path] = event["address"]
    return await asyncio.to_thread(fetch, f"http://{scene.addresses[daemon.log_path]}{path}")


async def kill(scene: Scene, _: random.Random) -> None:
    """The daemon is killed and started again."""
    async with scene.restarting:
        scene.up, scene.watch.two_daemons = False, True
        scene.daemon.kill()
        started, before = time.monotonic(), len(scene.rig.stub.registrations)
        scene.start()
        await registered(scene, STEADY, before)
        scene.timed("killed daemon to lists", time.monotonic() - started)
        await listed_anew(scene, before)
        scene.watch.look()
        scene.watch.two_daemons = False
