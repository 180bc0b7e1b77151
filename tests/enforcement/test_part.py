"""The part of the daemon: what it adds to allocations, and before it has looked."""

from pathlib import Path

import pytest
from msgspec import Struct

from deviceplugin.enforcement.section import EnforcementSection, ExcessSection
from deviceplugin.enforcement.service import EnforcementPart
from deviceplugin.enforcement.standing import Standing
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import Device
from deviceplugin.resources.grants import Granted
from deviceplugin.vendor import Grant
from tests.enforcement.builders import GPU, H100, MEMORY, World, share_of, slices
from tests.enforcement.kernel import GIB


class Settings(Struct):
    """A configuration of this section."""

    sections: dict[str, object]
    host_root: Path
    state_dir: Path


def part_of(root: Path, section: EnforcementSection) -> EnforcementPart:
    settings = Settings({"enforcement": section}, root, root / "state")
    return EnforcementPart(settings, World(root).around())


def granted(device: Device) -> Granted:
    return Granted(
        grants=(Grant(device=device, share=share_of(device), count=2, memory_bytes=2 * GIB),)
    )


def test_nothing_is_given_before_the_node_has_been_looked_at(tmp_path: Path) -> None:
    part = part_of(tmp_path, EnforcementSection(memory="nri"))
    with pytest.raises(AllocationError, match="has not been looked at yet") as caught:
        part.noted(slices(MEMORY, GPU), granted(GPU))
    assert caught.value.refusal is Refusal.UNLIMITED


@pytest.mark.parametrize(
    ("section", "device"),
    [
        (EnforcementSection(), GPU),
        (EnforcementSection(memory="nri", failure="warn"), GPU),
        (EnforcementSection(memory="nri"), H100),
    ],
    ids=["off", "a warning is enough", "a driver that takes no part"],
)
def test_a_slice_for_which_no_limit_is_due_is_given_as_it_is(
    tmp_path: Path, section: EnforcementSection, device: Device
) -> None:
    part = part_of(tmp_path, section)
    assert part.noted(slices(MEMORY, device), granted(device)) == granted(device)


def test_who_watches_without_processes_is_told(tmp_path: Path) -> None:
    watching = EnforcementSection(excess=ExcessSection(watch=True))
    assert "telemetry.processes" in part_of(tmp_path, watching).remark()
    assert part_of(tmp_path, EnforcementSection()).remark() == ""


def test_a_node_whose_kernel_has_no_region_sets_no_limit_and_says_so() -> None:
    standing = Standing(problem="")
    assert "its driver has no region" in standing.why_not(GPU)
    assert standing.unsettable(H100) == ""
    assert Standing(problem="no controller").unsettable(GPU) == "no controller"
