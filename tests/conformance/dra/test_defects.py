"""A driver with a known defect fails its line; the complete one fails none."""

from pathlib import Path

import pytest

from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.conformance.dra.runner import run_dra_suite
from deviceplugin.testing.conformance.verdict import DRA, Outcome, checklist
from tests.conformance.dra.defects import DEFECTS
from tests.conformance.dra.small import Small

SLACK = 5.0
HIDDEN = {line.number for line in checklist(DRA) if line.hidden}


@pytest.mark.slow
async def test_the_complete_driver_fails_no_line(short_dir: Path) -> None:
    result = await run_dra_suite(Small(short_dir, ApiServer()), slack=SLACK)
    assert {v.line.number: v.seen for v in result.verdicts if v.outcome is Outcome.FAIL} == {}
    assert {v.line.number for v in result.verdicts if v.outcome is not Outcome.PASS} == HIDDEN


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DEFECTS))
async def test_a_defect_fails_its_line_and_no_other(name: str, short_dir: Path) -> None:
    make, fails = DEFECTS[name]
    driver = make(short_dir, ApiServer())
    result = await run_dra_suite(driver, slack=SLACK, lines=frozenset(fails))
    found = {v.line.number: v.seen for v in result.verdicts if v.outcome is Outcome.FAIL}
    assert set(found) == fails, found


def test_every_line_that_can_be_seen_has_a_driver_that_fails_it() -> None:
    every = {line.number for line in checklist(DRA)}
    unseen = every - HIDDEN - {line for _, fails in DEFECTS.values() for line in fails}
    assert unseen == {27}, "a Prepare of 40 s is no test that anybody waits for"
