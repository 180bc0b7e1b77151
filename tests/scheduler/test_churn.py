"""What a day of pods that come and go leaves behind: nothing."""

import gc
import random
import tracemalloc
from statistics import fmean

import msgspec

from deviceplugin.scheduler.extender import MAX_EXPLAINED, Extender
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod

NODES, HOURS, PODS_AN_HOUR = 20, 24, 100
RUNNING = 120
FLAT_BYTES = 100_000  # half of what the decisions of an hour take


class Day:
    """A cluster on which pods arrive, are bound or lost on the way, run, and end."""

    def __init__(self) -> None:
        self.now, self.chance = 0.0, random.Random(7)
        self.cluster = Cluster(Reading(shares={"example.com/share": 10}), lambda: self.now)
        self.cluster.set_nodes(
            msgspec.convert([node(f"n{n}", 8) for n in range(NODES)], list[Node])
        )
        self.extender = Extender(self.cluster)
        self.running: list[str] = []
        self.number = 0

    def hour(self) -> None:
        for _ in range(PODS_AN_HOUR):
            self.now += 3600 / PODS_AN_HOUR
            self.arrive()
            while len(self.running) > RUNNING:
                key = self.running.pop(self.chance.randrange(len(self.running)))
                self.cluster.remove_pod(key)
        self.cluster.expect_what_is_there()

    def arrive(self) -> None:
        self.number += 1
        size: Document = self.chance.choice([{"gpus": 1}, {"gpus": 2}, {"share": 50}])
        one = pod(f"p{self.number}", **size)
        names = [f"n{n}" for n in range(NODES)]
        asked = {"Pod": one, "NodeNames": names}
        fitting = msgspec.json.decode(self.extender.filter(msgspec.json.encode(asked)))["NodeNames"]
        if not fitting:
            return
        scores = msgspec.json.decode(
            self.extender.prioritize(msgspec.json.encode({"Pod": one, "NodeNames": fitting}))
        )
        best = max(scores, key=lambda score: score["Score"])["Host"]
        if self.chance.random() < 0.9:  # the others are lost between the answer and the binding
            one["spec"]["nodeName"] = best
            self.cluster.put_pod(msgspec.convert(one, Pod))
            self.running.append(f"uid-p{self.number}")


def test_a_day_of_churn_leaves_memory_flat_and_the_cluster_empty() -> None:
    day, sizes = Day(), []
    tracemalloc.start()
    for _ in range(HOURS):
        day.hour()
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # Of each pod its last decision is kept, up to a bound that the first ten hours reach.
    assert MAX_EXPLAINED == 10 * PODS_AN_HOUR
    steady = sizes[HOURS // 2 :]
    assert max(steady) - min(steady) < FLAT_BYTES
    assert abs(fmean(steady[-6:]) - fmean(steady[:6])) < FLAT_BYTES / 4
    for key in day.running:
        day.cluster.remove_pod(key)
    day.now += 31
    day.cluster.forget("nobody")
    assert day.cluster.board.packed()["free"] == NODES * 8000
    assert day.cluster.assumed == 0
