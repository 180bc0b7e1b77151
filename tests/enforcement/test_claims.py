"""Claims that share a GPU's memory: their containers are held to it as those with slices are."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from deviceplugin.enforcement.files import claim_path
from deviceplugin.enforcement.held import with_claims
from deviceplugin.enforcement.section import EnforcementSection, ExcessSection
from deviceplugin.enforcement.service import EnforcementPart
from deviceplugin.model import ContainerEdits, DeviceID, frozen
from deviceplugin.resources.entries import ClaimMemory, Holder
from deviceplugin.resources.usage import claim_name
from tests.enforcement.builders import CARD, GPU, H100, World
from tests.enforcement.kernel import AMD, GIB, TILES, KernelTree
from tests.enforcement.runtime import Runtime, StartError
from tests.enforcement.test_part import Settings
from tests.enforcement.test_pods import DRIVERS, ID, MAIN
from tests.enforcement.test_pods import kernel as named_kernel
from tests.enforcement.test_runtime import POD, enforcing, kernel, path_of, runtime

__all__ = ["kernel", "named_kernel", "runtime"]  # fixtures
DRIVER = "gpu.amd.com"
NAME = claim_name("ml", "half")


def claim(memory: Mapping[DeviceID, int] | None = None, uid: str = "u-1") -> ClaimMemory:
    sizes = memory or {GPU.id: 6 * GIB, CARD.id: 4 * GIB}
    return ClaimMemory(source=DRIVER, uid=uid, name=NAME, memory=sizes)


LIMITS = {AMD: 6 * GIB, TILES[0]: 2 * GIB, TILES[1]: 2 * GIB}


def test_the_ledger_says_which_container_has_which_claim(short_dir: Path) -> None:
    world = World(short_dir)
    other = Holder(namespace="ml", pod="train", container="side")
    found = with_claims({}, [claim()], [(NAME, MAIN), (NAME, other)], world.devices)
    assert list(found) == [MAIN, other]
    assert [(g.device.id, g.memory_bytes) for g in found[MAIN]] == [
        (CARD.id, 4 * GIB),
        (GPU.id, 6 * GIB),
    ]
    assert with_claims({}, [claim()], [(claim_name("ml", "else"), MAIN)], world.devices) == {}
    gone = claim({DeviceID("gone"): GIB}, "u-2")
    assert with_claims({}, [gone], [(NAME, MAIN)], world.devices) == {MAIN: ()}


async def test_a_container_that_runs_is_held_to_its_claim(
    short_dir: Path, tmp_path: Path, named_kernel: KernelTree
) -> None:
    cgroup = named_kernel.make(f"{DRIVERS['cgroupfs']}/{ID}")
    world = World(tmp_path, claims=[claim()], claimants=[(NAME, MAIN)])
    section = EnforcementSection(memory="cgroup")
    await world.enforcer(section, named_kernel.tree).look()
    assert named_kernel.tree.limits(cgroup) == LIMITS


async def test_the_runtime_gets_the_limit_of_a_claim_by_its_mount(
    short_dir: Path, runtime: Runtime
) -> None:
    world = World(short_dir, claims=[claim()])
    source = claim_path(short_dir / "state", DRIVER, "u-1")
    slices = {"memory.deviceplugin/amd.com_gpu-memory": f"{AMD} {GIB}"}
    async with enforcing(world, runtime):
        made = await runtime.create(path_of(1), {}, POD, ["/etc/hosts", source])
        assert runtime.kernel.tree.limits(made.cgroup) == LIMITS
        both = await runtime.create(path_of(2), slices, POD, [source])
        limits = runtime.kernel.tree.limits(both.cgroup) or {}
        assert limits[AMD] == 7 * GIB


@pytest.mark.parametrize("name", ["claim_gpu.amd.com_u-2", "../limits/claim_gpu.amd.com_u-1", ""])
async def test_no_other_mount_is_one_of_a_claim(
    short_dir: Path, runtime: Runtime, name: str
) -> None:
    async with enforcing(World(short_dir, claims=[claim()]), runtime):
        source = f"{short_dir}/state/limits/{name}"
        made = await runtime.create(path_of(1), {}, POD, [source])
        assert set((runtime.kernel.tree.limits(made.cgroup) or {}).values()) == {None}


async def test_a_claim_whose_limit_cannot_be_set_ends_the_containers_start(
    short_dir: Path, runtime: Runtime
) -> None:
    (runtime.kernel.root / "dmem.capacity").write_text(f"{TILES[0]} {12 * GIB}\n")
    world = World(short_dir, claims=[claim({GPU.id: GIB})])
    async with enforcing(world, runtime):
        source = claim_path(short_dir / "state", DRIVER, "u-1")
        with pytest.raises(StartError, match="its driver has no region"):
            await runtime.create(path_of(1), {}, POD, [source])


async def test_what_runs_without_the_limit_of_its_claim_gets_it_when_the_daemon_is_back(
    short_dir: Path, runtime: Runtime
) -> None:
    source = claim_path(short_dir / "state", DRIVER, "u-1")
    made = await runtime.create(path_of(1), {}, POD, [source])
    world = World(short_dir, claims=[claim({GPU.id: 6 * GIB})])
    async with enforcing(world, runtime):
        assert (runtime.kernel.tree.limits(made.cgroup) or {})[AMD] == 6 * GIB


async def test_the_file_of_a_claim_is_what_its_containers_mount(tmp_path: Path) -> None:
    world = World(tmp_path, claims=[claim()])
    told = ContainerEdits(env=frozen({"GPU_SHARE_ISOLATION": "none"}))
    for section, gives in (
        (EnforcementSection(memory="nri"), True),
        (EnforcementSection(file=True), True),
        (EnforcementSection(memory="cgroup"), False),
        (EnforcementSection(excess=ExcessSection(watch=True)), False),
    ):
        settings = Settings({"enforcement": section}, tmp_path, tmp_path / "state")
        part = EnforcementPart(settings, world.around())
        edits = await part.claimed(DRIVER, "u-1", told)
        assert bool(edits.mounts) == gives
        assert await part.claimed(DRIVER, "u-9", told) is told
        for mount in edits.mounts:
            assert mount.host_path == claim_path(tmp_path / "state", DRIVER, "u-1")
            assert mount.path == "/run/deviceplugin/limits/claim_gpu.amd.com_u-1"
            assert "GPU_SHARE_ISOLATION=none\n" in Path(mount.host_path).read_text()


async def test_the_file_of_a_claim_goes_some_time_after_it(tmp_path: Path) -> None:
    world = World(tmp_path, claims=[claim()])
    section = EnforcementSection(file=True)
    part = EnforcementPart(
        Settings({"enforcement": section}, tmp_path, tmp_path / "state"), world.around()
    )
    enforcer = world.enforcer(section)
    enforcer.files = part._files()
    await part.claimed(DRIVER, "u-1", ContainerEdits())
    path = Path(claim_path(tmp_path / "state", DRIVER, "u-1"))
    for claims, now_s, there in (([claim()], 0, True), ([], 1, True), ([], 200, False)):
        world.claims, world.now_s = claims, float(now_s)
        await enforcer.look()
        assert path.exists() == there


async def test_a_driver_that_takes_no_part_is_no_reason_to_refuse(
    short_dir: Path, runtime: Runtime
) -> None:
    world = World(short_dir, devices={H100.id: H100}, claims=[claim({H100.id: GIB})])
    async with enforcing(world, runtime):
        source = claim_path(short_dir / "state", DRIVER, "u-1")
        assert await runtime.asked(path_of(1), {}, POD, [source]) == {}
