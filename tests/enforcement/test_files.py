"""What containers were told of their slices, as files."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.enforcement.files import GONE_S, LimitFiles, file_text, keys_in
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.enforcement.service import EnforcementPart
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import AdvertisedID, ContainerEdits, frozen
from tests.enforcement.builders import GPU, MEMORY, World, slices
from tests.enforcement.test_part import Settings

TOLD = {"GPU_SHARE_ISOLATION": "memory", "HSA_CU_MASK": "0:0-3;1:0-7"}
EDITS = ContainerEdits(env=frozen(TOLD))
LISTED = slices(MEMORY, GPU)
PLACE = "/run/deviceplugin/limits/amd.com_gpu-memory"


def part_of(root: Path, section: EnforcementSection) -> EnforcementPart:
    configured = Settings({"enforcement": section}, root, root / "state")
    return EnforcementPart(configured, World(root).around())


async def test_a_container_reads_what_it_was_told_and_cannot_write_it(tmp_path: Path) -> None:
    part = part_of(tmp_path, EnforcementSection(file=True))
    edits = await part.finished(LISTED, LISTED.devices[:2], EDITS)
    (mount,) = edits.mounts
    assert (mount.path, mount.read_only) == (PLACE, True)
    path = Path(mount.host_path)
    assert path.parent == tmp_path / "state/limits"
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.read_text().splitlines() == [
        f"# resource {MEMORY}",
        *(f"# id {entry.id}" for entry in LISTED.devices[:2]),
        "GPU_SHARE_ISOLATION=memory",
        "HSA_CU_MASK=0:0-3;1:0-7",
    ]


async def test_a_container_of_whole_devices_gets_no_file(tmp_path: Path) -> None:
    part = part_of(tmp_path, EnforcementSection(file=True))
    assert await part.finished(LISTED, (), EDITS) is EDITS
    off = part_of(tmp_path, EnforcementSection())
    assert await off.finished(LISTED, LISTED.devices[:1], EDITS) is EDITS
    assert (off.is_on, part.is_on) == (False, True)


@pytest.mark.parametrize("failure", ["refuse", "warn"])
async def test_a_file_that_cannot_be_written_is_refused_or_logged(
    tmp_path: Path, failure: str
) -> None:
    (tmp_path / "state").write_text("no folder")
    section = EnforcementSection(file=True, failure=failure)  # type: ignore[arg-type]  # one of two
    part = part_of(tmp_path, section)
    if failure == "warn":
        assert await part.finished(LISTED, LISTED.devices[:1], EDITS) is EDITS
        return
    with pytest.raises(AllocationError, match="cannot be written") as caught:
        await part.finished(LISTED, LISTED.devices[:1], EDITS)
    assert caught.value.refusal is Refusal.UNLIMITED


async def test_a_file_goes_some_time_after_its_container(tmp_path: Path) -> None:
    world = World(tmp_path)
    enforcer = world.enforcer(EnforcementSection(file=True))
    enforcer.files = files = LimitFiles(tmp_path)
    path = files.write(MEMORY, [f"{GPU.id}-m0"], TOLD)
    for now_s, there in ((0.0, True), (GONE_S - 1, True), (GONE_S, False)):
        world.now_s = now_s
        await enforcer.look()
        assert path.exists() == there


def test_no_value_can_make_a_line_of_its_own() -> None:
    text = file_text(MEMORY, ["a-m0"], {"X": "1\n# id b-m0", "Y": "2"})
    assert text.endswith("Y=2\n")
    assert keys_in(text) == {(MEMORY, "a-m0")}


def test_what_is_no_file_of_ours_is_nobodys_and_goes(tmp_path: Path) -> None:
    files = LimitFiles(tmp_path)
    files.write(MEMORY, ["a-m0"], TOLD)
    (tmp_path / "limits/else").write_bytes(b"\xff# id a-m0")
    assert files.sweep(files.read(), frozenset(), 0.0) == 0
    assert files.sweep(files.read(), frozenset(), GONE_S) == 2
    assert files.read() == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.integers(0, 3)),
        st.tuples(st.just("free"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["look", "later", "restart"]), st.just(0)),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_who_holds_ids_has_a_file_and_who_is_gone_has_none_in_the_end(
    steps: Sequence[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, now_s = Path(folder), 0.0
        files, held = LimitFiles(root), dict[int, Path]()

        def look() -> None:
            keys = frozenset((MEMORY, AdvertisedID(f"a-m{number}")) for number in held)
            files.sweep(files.read(), keys, now_s)

        for step, number in steps:
            if step == "give" and number not in held:
                held[number] = files.write(MEMORY, [f"a-m{number}"], TOLD)
            elif step == "free":
                held.pop(number, None)
            elif step == "later":
                now_s += GONE_S
            elif step == "restart":
                files = LimitFiles(root)
            else:
                look()
            assert all(path.exists() for path in held.values())
            assert len(set(held.values())) == len(held)
        held.clear()
        for _ in range(2):
            look()
            now_s += GONE_S
        assert files.read() == []
