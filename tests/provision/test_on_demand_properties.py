"""Whatever claims, pods and processes do, and wherever a process ends: no instance that a container
has is destroyed, no two overlap, and in the end there is what claims have and nothing else."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deviceplugin.dra.names import mig_name
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import AdvertisedID, DeviceID
from deviceplugin.provision.section import Layout
from deviceplugin.testing.apiserver import ApiServer
from tests.provision.claiming import GPU, Cards, Killed, Life
from tests.provision.model import assert_apart
from tests.provision.products import product

WHOLE = "gpu-0"
CLAIMS = 5
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["prepare"] * 4
            + ["unprepare"] * 3
            + ["allocate", "release", "enter", "leave", "restart", "delete", "settle"]
        ),
        st.integers(0, CLAIMS - 1),
        st.integers(0, 12),  # the point at which a process ends; 0 and what is not reached is none
    ),
    max_size=16,
)


def names() -> list[str]:
    """Every device that claims can ask for."""
    mig = product("H200").mig
    assert mig is not None
    parts = [mig_name(WHOLE, p.name, p.id, start) for p in mig.profiles for start in p.starts]
    return [WHOLE, *parts]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    asked=st.lists(st.sampled_from(names()), min_size=CLAIMS, max_size=CLAIMS),
    whose=st.booleans(),
)
def test_what_containers_have_stays_and_nothing_else(
    steps: list[tuple[str, int, int]], asked: list[str], whose: bool
) -> None:
    root = Path(tempfile.mkdtemp(prefix="d"))
    try:
        asyncio.run(Node(root, asked, of_daemon=whose).take(steps))
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Node:
    """One GPU, claims for parts of it or all, and the device plugin; what containers have is kept
    here, as the kubelet and the runtime would have it. With `of_daemon` it is the daemon that
    ends at a point, else the privileged process."""

    def __init__(self, root: Path, asked: list[str], *, of_daemon: bool) -> None:
        self.root, self.cards, self.of_daemon = root, Cards("H200"), of_daemon
        self.api = ApiServer()
        self.api.slices = {"x": {"spec": {"driver": "gpu.nvidia.com"}}}
        for number, device in enumerate(asked):
            self.api.allocate(f"c{number}", f"u-c{number}", [device])
        self.have: dict[int, DeviceID] = {}
        self.pod, self.left = False, 0

    async def take(self, steps: list[tuple[str, int, int]]) -> None:
        await self.begin()
        for step, number, point in steps:
            self.left = point
            try:
                await getattr(self, step)(number)
            except Killed:
                self.left = 0
                await self.begin()
            self.left = 0
            self.check()
        await self.end()

    async def begin(self) -> None:
        """The daemon's next life; the kubelet's answer shows it what a pod has."""
        self.life = Life(self.root, self.cards, self.api, [Layout(on_demand=True)])
        if self.of_daemon:
            self.life.point = self.pass_by
        else:
            self.cards.before = self.pass_by
        if self.pod:
            self.life.ledger.reserve([(GPU, AdvertisedID("GPU-0"))])
        await self.life.settle()

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def check(self) -> None:
        assert_apart(self.cards.instances("GPU-0"))
        there = {DeviceID(one) for one in self.ids()}
        assert all(one in there for one in self.have.values()), (self.have, there)
        assert not (self.pod and self.have)
        if WHOLE in map(str, self.have.values()) or self.pod:
            assert not self.cards.places()

    def ids(self) -> list[str]:
        mig = self.cards.gpus["GPU-0"].mig
        assert mig is not None
        parts = [self.cards.ids["GPU-0", *place] for place in self.cards.places()]
        return parts if mig.enabled else ["GPU-0"]

    async def end(self) -> None:
        """Claims that no container has are deleted, every process starts again, and the node has
        what the others have."""
        self.cards.users.clear()
        for number in set(range(CLAIMS)) - self.have.keys():
            self.api.claims.pop(("default", f"c{number}"), None)
        await self.begin()
        await self.life.driver.claims.reconcile()
        await self.life.settle()
        self.check()
        assert len(self.cards.places()) == len([d for d in self.have.values() if d != "GPU-0"])
        assert self.life.held() == {
            device: [f"claim default/c{number}"] for number, device in self.have.items()
        }
        assert self.life.follower.table.standings()[0].state == "as-wanted"

    async def prepare(self, number: int) -> None:
        name = f"c{number}"
        if number in self.have or ("default", name) not in self.api.claims:
            return
        try:
            await self.life.prepare(name)
        except DevicePluginError:
            return
        (one,) = self.life.driver.claims.entries[f"u-{name}"].devices
        self.have[number] = one.device

    async def unprepare(self, number: int) -> None:
        """When its containers have ended, as the kubelet does it."""
        self.have.pop(number, None)
        entry = self.life.driver.claims.entries.get(f"u-c{number}")
        try:
            await self.life.unprepare(f"c{number}")
        except DevicePluginError:
            return
        asked = {one.place for one in entry.devices if one.place} if entry else set()
        gone = {(place.profile, place.start) for place in asked}
        assert gone.isdisjoint(self.cards.places()), "the kubelet was told that it is given back"

    async def allocate(self, _: int) -> None:
        """As the guard of the device plugin decides it, for a GPU that is listed."""
        device = self.life.store.current.devices[DeviceID("GPU-0")]
        if device.resource is not None and not self.life.ledger.usage.value.of(device.id):
            self.life.ledger.reserve([(GPU, AdvertisedID("GPU-0"))])
            self.pod = True

    async def release(self, _: int) -> None:
        self.life.ledger.give_back([(GPU, AdvertisedID("GPU-0"))], {})
        self.pod = False

    async def enter(self, number: int) -> None:
        """A process that outlives its container."""
        for place in self.cards.places():
            if self.cards.ids["GPU-0", *place] == self.have.get(number):
                self.cards.users["GPU-0", *place] = "process 7"

    async def leave(self, _: int) -> None:
        self.cards.users.clear()

    async def restart(self, _: int) -> None:
        raise Killed

    async def delete(self, number: int) -> None:
        """A claim that no container has is deleted while nobody tells the driver."""
        if number not in self.have:
            self.api.claims.pop(("default", f"c{number}"), None)
            await self.life.driver.claims.reconcile()

    async def settle(self, _: int) -> None:
        await self.life.settle()
