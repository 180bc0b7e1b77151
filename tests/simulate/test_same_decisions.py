"""The simulation decides as the extender does when it is called over HTTP."""

import asyncio

import pytest

from deviceplugin.scheduler.demand import Workload
from deviceplugin.scheduler.fairness import FairShare
from deviceplugin.simulate.coming import reading_of
from deviceplugin.simulate.compare import Rules, cluster_of, ready, withheld_of
from deviceplugin.simulate.daemons import Daemons
from deviceplugin.simulate.placing import Placing
from deviceplugin.simulate.timed import Clock, TimedReplay
from tests.simulate.streams import READING, decisions, extender, stream

FAIR = FairShare(weights={"ml": 3}, starving_s=2000.0)


@pytest.mark.parametrize(
    "rules",
    [Rules(), Rules(fair=FAIR), Rules(keep_after_s=600.0), Rules(fair=FAIR, keep_after_s=600.0)],
    ids=["plain", "shares", "kept", "both"],
)
async def test_a_replay_places_and_refuses_what_the_extender_does(rules: Rules) -> None:
    trace, clock = ready(stream(70, seed=7)), Clock()
    cluster = cluster_of(trace, reading_of(READING, trace), clock, (None, None))
    places = Placing(cluster, withheld_of(cluster, rules, clock), Daemons(trace.nodes))
    local = TimedReplay(places, clock, lambda one: one.total_milli, rules.again_s)
    local.run(trace.coming)
    async with extender(trace, rules, clock) as asking:
        asking.service.cluster.board.expect(Workload([one.demand for one in trace.coming]))
        called = TimedReplay(asking, clock, lambda one: one.total_milli, rules.again_s)
        await asyncio.to_thread(called.run, trace.coming)
    assert decisions(local.waits) == decisions(called.waits)
    waited = [wait for wait in local.waits if wait.seconds > 0]
    assert len(waited) > 10  # it is about more than pods that fit at once
    assert {wait.node for wait in local.waits} >= set("abcd")
