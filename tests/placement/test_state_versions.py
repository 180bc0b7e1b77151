"""placement.json of every released version loads for ever; a later one's keys are kept.

A release adds its file to `state/`; no file there is ever changed.
"""

import asyncio
import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin.host import Host
from deviceplugin.model import Inventory
from deviceplugin.placement.service import STATE_FILE, Placement, read_turns, settings_of
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.latest import Latest

RELEASED = sorted((Path(__file__).parent / "state").glob("*.json"))
TURNS = {"nvidia.com/gpu": "GPU-00000000-0000-0000-0000-000000000001"}
WAIT_S = 20.0


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_the_file_of_a_released_version_loads(path: Path) -> None:
    with capture_logs() as logs:
        assert read_turns(path)[0] == TURNS
    assert logs == []


async def test_keys_of_a_later_version_are_written_back(tmp_path: Path) -> None:
    path, later = tmp_path / STATE_FILE, {"weights": {"a": [1]}, "handed_out": TURNS}
    path.write_text(json.dumps(later))
    before = path.stat().st_ino
    placement = Placement(Host(tmp_path), settings_of({}, "n"), tmp_path)
    serving = asyncio.create_task(placement.follow(Latest(Inventory()), Latest[Resources]({})))
    async with asyncio.timeout(WAIT_S):
        while path.stat().st_ino == before:  # noqa: ASYNC110  # written by a thread
            await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])
    assert json.loads(path.read_bytes()) == later
