"""`python -m tests.soak [--seconds N] [--seed N] [--kills]`: 1 for a broken invariant."""

import argparse
import asyncio
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from functools import partial
from pathlib import Path

from deviceplugin.runtime.tables import table
from deviceplugin.testing.kubelet import KubeletStub
from tests.rig import Rig
from tests.soak.actors import PATIENCE_S, Scene, cast, configure, forget
from tests.soak.node import STEADY, WHOLE, SoakNode, configured
from tests.soak.watch import Watch

LOOK_S = 0.2
STOP_S = 20.0  # the table tells the time
GRACE_S = 20.0  # a kubelet's is five minutes, for which it counts a resource that has ended
# Ids that an Allocate named stay for two minutes after they went; so do forms.
QUIET_S = 150.0


async def soak(root: Path, seconds: float, seed: int, *, kills: bool) -> Scene:
    """Start a daemon, let everybody act for so long, and see what is left when it is quiet."""
    rig = Rig(root)
    # Under this policy a list without an id that a pod holds is told as a crash.
    rig.stub = KubeletStub(
        rig.kubelet_dir, node_topology_policy="best-effort", grace_s=GRACE_S, seed=seed
    )
    node = SoakNode(rig)
    scene = Scene(rig, node, Watch(rig.stub, node))
    await rig.stub.start()
    try:
        scene.start()
        await rig.stub.wait_registered(*STEADY, timeout_s=PATIENCE_S)
        await act(scene, seconds, seed, kills=kills)
        if not scene.watch.broken:
            await calm_down(scene)
        if not scene.watch.broken:
            await settle(scene, seconds)
        await end(scene)
    finally:
        scene.daemon.kill()
        await rig.stub.aclose()
    return scene


async def act(scene: Scene, seconds: float, seed: int, *, kills: bool) -> None:
    """All actors at once, and somebody who looks all the time."""
    async with asyncio.TaskGroup() as group:
        for name, deed, pause_s in cast(scene, kills=kills):
            dice = random.Random(f"{seed}{name}")  # the soak's own, to repeat it
            group.create_task(guarded(scene, name, scene.play(name, deed, dice, pause_s)))
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s and not scene.watch.broken:
            await asyncio.sleep(LOOK_S)
            look(scene)
        scene.ended.set()


async def guarded(scene: Scene, name: str, play: Awaitable[None]) -> None:
    """An actor that waits in vain has found something."""
    try:
        await play
    except (TimeoutError, OSError) as error:
        scene.watch.breaks(f"{name}: {type(error).__name__}: {error}")


def look(scene: Scene) -> None:
    """Check, and sample the process now and then."""
    scene.watch.look()
    scene.watch.registrations_are_bounded()
    if scene.up:
        scene.watch.sample(scene.daemon.log_path, scene.daemon.process.pid)


async def calm_down(scene: Scene) -> None:
    """The hardware is as it was, every pod ends, the first configuration counts again."""
    scene.node.restore()
    for pod in sorted(scene.rig.stub.pods):
        scene.rig.stub.remove_pod(pod.partition("/")[2])
    await configure(scene, configured(), good=True, hup=True)
    await forget(scene)


async def settle(scene: Scene, seconds: float) -> None:
    """What is listed equals what the hardware says: after a short soak with a fresh daemon, else
    with the one that lived through it all."""
    scene.watch.is_bounded()
    started = time.monotonic()
    if seconds < QUIET_S:
        await stop(scene)
        scene.start()
    try:
        await scene.rig.stub.wait_for(partial(is_whole, scene.rig.stub), QUIET_S, f"{WHOLE}")
        scene.timed("calm to what the hardware says", time.monotonic() - started)
    except TimeoutError as error:
        scene.watch.breaks(f"what is listed does not become what the hardware says: {error}")


def is_whole(stub: KubeletStub) -> bool:
    """Whether capacity and allocatable are those of the node as it was made."""
    return all(
        {name: count for name, count in view.items() if count} == WHOLE
        for view in (stub.capacity(), stub.allocatable())
    )


async def end(scene: Scene) -> None:
    """Look once more, and end the daemon."""
    status, text = await scene.daemon.http("/readyz")
    if not scene.watch.broken and status != 200:
        scene.watch.breaks(f"/readyz answers {status} when all is quiet: {text}")
    await stop(scene)
    scene.watch.look()


async def stop(scene: Scene) -> None:
    """SIGTERM, which ends it with status 0 in time."""
    scene.up = False
    started = time.monotonic()
    status = await scene.daemon.stop()
    took_s = time.monotonic() - started
    scene.timed("SIGTERM to exit", took_s)
    if status != 0 or took_s > STOP_S:
        scene.watch.breaks(f"SIGTERM: exit status {status} after {took_s:.1f} s")


def report(scene: Scene) -> str:
    """What was done, what it took, what it left."""
    return table(("WHAT", "MEASURED"), list(rows(scene)))


def rows(scene: Scene) -> Iterator[tuple[str, str]]:
    """One line for each deed, each recovery, each thing that must not grow."""
    done: dict[str, int] = {}
    for name, count in scene.done.items():
        kind = name.rstrip(" 0123456789")
        done[kind] = done.get(kind, 0) + count
    yield from ((name, str(count)) for name, count in sorted(done.items()))
    refused = sum(scene.refusals.values())
    yield "pods refused, as they must be", str(refused)
    yield "ids given twice by the kubelet itself", str(scene.watch.twice)
    for name, spent in sorted(scene.took.items()):
        median = sorted(spent)[len(spent) // 2]
        yield f"{name}: median, worst", f"{1000 * median:.0f} ms, {1000 * max(spent):.0f} ms"
    for name, (first, last) in scene.watch.readings.items():
        yield f"{name}: after the warm-up, at the end", f"{first:.1f}, {last:.1f}"
    yield "broken invariants", str(len(scene.watch.broken))


def main() -> int:
    """Run, print the table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None, help="of all dice; random by default")
    parser.add_argument("--kills", action="store_true", help="kill the daemon now and then")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"soak of {arguments.seconds:.0f} s with seed {seed}\n")
    sys.stdout.flush()
    directory = Path(tempfile.mkdtemp(prefix="s"))
    scene = asyncio.run(soak(directory, arguments.seconds, seed, kills=arguments.kills))
    sys.stdout.write(report(scene) + "\n")
    for text in scene.watch.broken:
        sys.stdout.write(f"BROKEN: {text}\n")
    if scene.watch.broken:
        sys.stdout.write(f"seed {seed}; everything is left in {directory}\n")
        return 1
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
