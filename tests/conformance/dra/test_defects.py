"""A driver with a known defect fails its line; the complete one fails none."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.conformance.dra.runner import run_dra_suite
from deviceplugin.testing.conformance.verdict import DRA, Outcome, checklist
from tests.conformance.dra.defects import DEFECTS
from tests.conformance.dra.small import Small

SLACK = 5.0
# What never comes is not waited for as long as what does; each of these waits for a minute or less.
IN_VAIN = {
    *("damage", "deleted", "forgets", "gives-up"),
    *("never-looks", "refused", "sticky", "takes-out"),
}
HIDDEN = {line.number for line in checklist(DRA) if line.hidden}


@pytest.mark.slow
async def test_the_complete_driver_fails_no_line(short_dir: Path) -> None:
    result = await run_dra_suite(Small(short_dir, ApiServer()), slack=SLACK)
    assert {v.line.number: v.seen for v in result.verdicts if v.outcome is Outcome.FAIL} == {}
    assert {v.line.number for v in result.verdicts if v.outcome is not Outcome.PASS} == HIDDEN


@pytest.mark.slow
def test_a_defect_fails_its_line_and_no_other(short_dir: Path) -> None:
    """All side by side: nearly all of the time is waited for what a driver does not do.

    Each in a process: their servers would hold up one another in one loop.
    """
    names = sorted(DEFECTS)
    dirs = [short_dir / str(number) for number in range(len(names))]
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(len(names), mp_context=forked) as pool:
        found = list(pool.map(failing, names, dirs))
    wrong = {n: f for n, f in zip(names, found, strict=True) if set(f) != DEFECTS[n][1]}
    assert wrong == {}


def failing(name: str, directory: Path) -> dict[int, str]:
    """The lines that a driver with this defect fails, of those that it should fail."""
    make, fails = DEFECTS[name]
    directory.mkdir()
    slack = 1.0 if name in IN_VAIN else SLACK
    driver = make(directory, ApiServer())
    result = asyncio.run(run_dra_suite(driver, slack=slack, lines=frozenset(fails)))
    return {v.line.number: v.seen for v in result.verdicts if v.outcome is Outcome.FAIL}


def test_every_line_that_can_be_seen_has_a_driver_that_fails_it() -> None:
    every = {line.number for line in checklist(DRA)}
    unseen = every - HIDDEN - {line for _, fails in DEFECTS.values() for line in fails}
    assert unseen == {27}, "a Prepare of 40 s is no test that anybody waits for"
