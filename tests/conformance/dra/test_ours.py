"""Our driver keeps every line that can be seen from outside."""

from pathlib import Path

import pytest

from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.conformance.dra.runner import run_dra_suite
from deviceplugin.testing.conformance.verdict import DRA, Outcome, checklist
from tests.conformance.dra.ours import Ours

SLACK = 10.0


@pytest.mark.slow
@pytest.mark.parametrize("minor", [34, 36])
async def test_our_driver_keeps_every_line(minor: int, short_dir: Path) -> None:
    result = await run_dra_suite(Ours(short_dir, ApiServer(minor=minor)), slack=SLACK)
    found = {v.line.number: (v.outcome, v.seen) for v in result.verdicts}
    hidden = {line.number for line in checklist(DRA) if line.hidden}
    # Without taints a device that fails is left out, unless a claim has it.
    without_taints = {14, 39} if minor < 36 else set()
    not_shared = {26}  # no rule of this node has one that several claims share
    poor = {n: seen for n, seen in found.items() if seen[0] is not Outcome.PASS}
    assert set(poor) - hidden - without_taints - not_shared == set(), poor
    assert len(found) == 44
