"""The daemon while it is attacked: it answers, and stays within its container's limit of memory.

How fast it answers is a matter of the machine as well: `make attacks` measures that.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.attacker import ATTACKS
from tests.attacks.scene import Scene, scene_below
from tests.rig import GPU, Rig

SECONDS = 1.0
MAX_MIB = 100.0
SHORT = sorted(ATTACKS.keys() - {"agent"})  # which is found after 10 s: test_storms

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(shared: Rig) -> AsyncIterator[Scene]:
    async with scene_below(shared) as scene:
        yield scene


@pytest.mark.parametrize("attack", SHORT)
async def test_it_serves_while_it_is_attacked(scene: Scene, attack: str) -> None:
    figures = await scene.under(attack, SECONDS)
    assert not figures.failed
    assert max(figures.rss_mib) < MAX_MIB
    assert scene.daemon.process.poll() is None
    await scene.allocate()
    assert scene.rig.stub.manager.crashes == []
    assert scene.rig.stub.capacity()[GPU] == 2
