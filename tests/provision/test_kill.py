"""SIGKILL before and after each change: what is there after the next start is the old layout or the
new one, whole, and the journal knows all of it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.provision.killing import CASES
from tests.rig import WAIT_S

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES)
async def test_a_kill_leaves_the_old_layout_or_the_new_one(case: str, tmp_path: Path) -> None:
    module = "tests.provision.killing"
    command = [sys.executable, "-m", module, str(tmp_path), case]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 4 * WAIT_S)
    assert process.returncode == 0
    found = json.loads(output)
    old, new = found["old"], found["new"]
    assert len(found["points"]) >= 6
    assert all(one in (old, new) for one in found["points"])
    if CASES[case].fails:
        assert old == new
    else:
        assert found["points"][0] == old
        assert found["points"][-1] == new
    assert not any(one["begun"] for one in [old, new, *found["points"]])
    for one in [old, new, *found["points"]]:
        assert one.get("whole", True)
        assert one["made"] == one.get("instances", [])
