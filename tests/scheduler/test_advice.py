"""Model, rule, round robin: who orders the nodes, and when the model has to be silent."""

import random
from typing import Any

import msgspec
import pytest

from deviceplugin.learning.figures import Figures
from deviceplugin.learning.killswitch import FEW
from deviceplugin.learning.model import Model
from deviceplugin.learning.predict import FEATURES
from deviceplugin.learning.runs import Run
from deviceplugin.learning.settings import Learning
from deviceplugin.scheduler.advice import Advice, group_of
from deviceplugin.scheduler.alike import BAND, extension, leading, ranks
from deviceplugin.scheduler.board import Board
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.extender import Extender
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.service import Service, Settings
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod

NAMES = [f"n{number}" for number in range(4)]
HOUR = 3600.0
LENGTHS = {"short": 600.0, "long": 10 * HOUR}


def owned(name: str, owner: str, *, gpus: int = 1, on: str = "") -> Document:
    made = pod(name, gpus=gpus, node=on)
    made["metadata"]["ownerReferences"] = [
        {"kind": "StatefulSet", "name": owner, "controller": True}
    ]
    made["status"] = {"phase": "Running" if on else "Pending"}
    return made


class World:
    """Four nodes of four GPUs, and an extender that learns; `took` seconds pass with each look at
    the clock."""

    def __init__(self, **settings: Any) -> None:
        self.now, self.took = 100_000.0, 0.0
        self.looks = 0
        self.cluster = Cluster(Reading(), lambda: self.now)
        self.cluster.set_nodes(msgspec.convert([node(name) for name in NAMES], list[Node]))
        self.advice = Advice(
            self.cluster,
            Learning(**settings),
            lambda: self.now,
            self.clock,
        )
        self.extender = Extender(self.cluster, orders=self.advice)

    def clock(self) -> float:
        self.looks += 1
        return (self.looks - 1) * self.took

    def put(self, one: Document) -> None:
        made = msgspec.convert(one, Pod)
        self.cluster.put_pod(made)
        self.advice.follow("PUT", [made])

    def remove(self, name: str) -> None:
        self.cluster.remove_pod(f"uid-{name}")
        self.advice.gone(f"uid-{name}")

    def learn(self, **weights: float) -> None:
        """A model by which all runs of an owner are as long as `LENGTHS` says."""
        runs = [
            Run(namespace="ml", owner=owner, start=1000.0 * number, seconds=seconds)
            for owner, seconds in LENGTHS.items()
            for number in range(24)
        ]
        self.advice.take(
            Model(
                made=self.now,
                window=(0.0, self.now),
                runs=len(runs),
                judged=None,
                weights=dict.fromkeys(FEATURES, 0.0)
                | {"namespace": -9.0}
                | (weights or {"agreement of both": 9}),
                shift=0.0,
                latest=runs,
            )
        )

    def best(self, one: Document) -> str:
        asked = msgspec.json.encode({"Pod": one, "NodeNames": NAMES})
        scores = msgspec.json.decode(self.extender.prioritize(asked))
        assert len({score["Score"] for score in scores}) == len(NAMES)
        return str(max(scores, key=lambda score: score["Score"])["Host"])

    @property
    def why(self) -> Document:
        found = self.extender.explained("ml/new")
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    world = World()
    world.learn()
    world.put(owned("one", "short", gpus=2, on="n1"))
    world.put(owned("other", "long", gpus=2, on="n2"))
    return world


def test_among_nodes_that_are_alike_pods_that_end_together_are_together(world: World) -> None:
    assert world.best(owned("new", "long")) == "n2"
    assert world.why["ordered_by"] == "model"
    assert world.best(owned("new", "short")) in ("n1", "n2")
    assert world.advice.counted == {"model": 2, "rule": 0, "round_robin": 0}


def test_a_prediction_never_wins_over_the_rule(world: World) -> None:
    world.put(owned("more", "short", on="n1"))  # the rule prefers the fuller node
    assert world.best(owned("new", "long")) == "n1"


def test_without_a_model_or_a_prediction_the_rule_decides(world: World) -> None:
    stranger = owned("new", "long")
    stranger["metadata"]["namespace"] = "unknown"
    world.best(stranger)
    plain = World()
    plain.put(owned("one", "short", gpus=2, on="n1"))
    assert plain.best(owned("new", "long")) == "n1"
    assert plain.why["ordered_by"] == "rule"
    assert (plain.advice.silence, plain.advice.counted["rule"]) == ("none", 1)
    assert world.advice.counted["rule"] == 1


def test_a_pod_without_gpus_is_the_rules(world: World) -> None:
    world.best(owned("new", "long", gpus=0))
    assert world.advice.counted["rule"] == 1


def test_a_model_older_than_two_intervals_is_silent(world: World) -> None:
    world.now += 2 * HOUR + 1
    assert world.advice.silence == "old"
    world.best(owned("new", "long"))
    assert world.advice.counted["rule"] == 1


def test_a_model_that_was_worse_than_the_rolling_median_in_the_last_day_is_silent() -> None:
    world = World(interval_s=24 * HOUR)
    world.learn(length=9.0, bias=-6.0)  # it believes the long runs, which are over
    for number in range(20):
        assert world.advice.silence == ""
        world.put(owned(f"p{number}", "long", on="n0"))
        world.now += 60
        world.remove(f"p{number}")
    assert world.advice.silence == "worse"
    world.best(owned("new", "long"))
    assert world.advice.counted["model"] == 0
    world.now += 24 * HOUR
    assert world.advice.silence == ""


def test_what_is_not_judged_in_time_gets_its_nodes_by_turns() -> None:
    world = World(batch=1, timeout_s=5.0)
    world.took = 2.0
    found = [world.best(owned("new", "long")) for _ in range(6)]
    assert found == ["n0", "n1", "n2", "n3", "n0", "n1"]
    assert world.advice.counted == {"model": 0, "rule": 0, "round_robin": 6}
    assert world.why["ordered_by"] == "round_robin"
    assert world.cluster.held("uid-new") is not None


def test_the_clock_is_looked_at_once_a_batch_of_nodes() -> None:
    looks = []
    for batch in (100, 2, 1):
        world = World(batch=batch)
        world.learn()
        world.best(owned("new", "long"))
        looks.append(world.looks)
    # One to begin with, and of four nodes each batch for the rule and for the model.
    assert looks == [1 + 1 + 1, 1 + 2 + 2, 1 + 4 + 4]


def test_a_model_that_is_not_done_in_time_leaves_the_order_to_the_rule() -> None:
    world = World(batch=2, timeout_s=5.0)
    world.learn()
    world.put(owned("one", "short", gpus=2, on="n1"))
    world.put(owned("other", "long", gpus=2, on="n2"))
    world.took = 2.0  # after three looks at the clock the time is over: two are the rule's
    assert world.best(owned("new", "long")) == "n1"
    assert world.advice.counted == {"model": 0, "rule": 1, "round_robin": 0}


def test_each_path_is_counted_where_prometheus_sees_it() -> None:
    service = Service(Settings(address=("127.0.0.1", 0), learning=Learning()))
    assert service._advice is not None
    service._advice.counted |= {"model": 3, "rule": 2, "round_robin": 1}
    text = service.metrics.registry.text()
    for by, count in (("model", 3), ("rule", 2), ("round_robin", 1)):
        assert f'deviceplugin_scheduler_orders_total{{by="{by}"}} {count}' in text


def test_an_extender_that_has_just_begun_is_silent_where_the_last_day_replayed_was_worse() -> None:
    world = World(interval_s=24 * HOUR)
    world.learn()
    assert world.advice.model is not None
    for factor, runs, silence in ((1.4, FEW, ""), (2.0, FEW - 1, ""), (2.0, FEW, "worse")):
        day = Figures(
            runs=runs, factor=factor, twice_percent=0, r2=0, covered_percent=0, rolling_factor=1.5
        )
        world.advice.take(msgspec.structs.replace(world.advice.model, last_day=day))
        assert world.advice.silence == silence
        assert world.advice.judged()["last_day_factor"] == factor
    for number in range(FEW):  # what has ended since counts for more: it was as good as the median
        assert world.advice.silence == "worse"
        world.put(owned(f"p{number}", "long", on="n0"))
        world.now += 60
        world.remove(f"p{number}")
    assert world.advice.silence == ""


def test_what_a_node_knows_by_the_name_of_a_pod_is_known_by_its_owner_here(world: World) -> None:
    worker = owned("train-worker-0", "train", on="n1")
    worker["metadata"]["ownerReferences"][0]["kind"] = "PyTorchJob"
    world.put(worker)
    assert world.advice.owners["ml", "train-worker"] == "train"


def test_of_watched_runs_those_of_nodes_that_gave_theirs_are_left_out(world: World) -> None:
    world.remove("one")
    world.remove("other")
    assert [run.owner for run in world.advice.runs()] == ["short", "long"]
    assert [run.owner for run in world.advice.runs({"n1": ()})] == ["long"]


def test_a_pod_that_ends_or_is_gone_is_a_run_that_was(world: World) -> None:
    world.now += 50
    ended = owned("one", "short", gpus=2, on="n1")
    ended["status"]["phase"] = "Succeeded"
    world.put(ended)
    world.advice.follow("SET", [])
    assert [(run.owner, run.seconds) for run in world.advice.runs()] == [
        ("short", 50.0),
        ("long", 50.0),
    ]


def test_a_pod_starts_when_the_kubelet_says() -> None:
    world = World()
    one = owned("one", "short", on="n1")
    one["status"]["startTime"] = "1970-01-02T00:00:00Z"
    world.put(one)
    world.remove("one")
    assert world.advice.runs()[0].start == 86_400


def test_a_gpu_with_too_little_memory_for_what_is_predicted_comes_last_among_alike() -> None:
    world = World()
    small = node("n1")
    small["metadata"]["labels"]["nvidia.com/gpu.memory"] = "1000"
    world.cluster.put_node(msgspec.convert(small, Node))
    world.learn()
    assert world.advice.model is not None
    world.advice.take(
        msgspec.structs.replace(
            world.advice.model,
            latest=[
                Run(namespace="ml", owner="long", start=0, seconds=60, peak_mib=2000.0)
                for _ in range(3)
            ],
        )
    )
    asked = msgspec.json.encode({"Pod": owned("new", "long"), "NodeNames": NAMES})
    scores = msgspec.json.decode(world.extender.prioritize(asked))
    assert min(scores, key=lambda score: score["Score"])["Host"] == "n1"


def test_the_group_of_a_pod_is_its_owner_and_first_container() -> None:
    one = owned("new", "long")
    one["spec"]["containers"][0]["name"] = "main"
    assert group_of(msgspec.convert(one, Pod)) == ("ml", "long", "main")
    one["spec"]["containers"].insert(0, {"name": "proxy"})
    assert group_of(msgspec.convert(one, Pod)) == ("ml", "long", "main")
    assert group_of(msgspec.convert(pod("alone"), Pod)) == ("ml", "alone", "")


def test_being_in_use_for_longer_counts_in_steps_that_double() -> None:
    steps = [extension(1000.0 + more, 1000.0) for more in (-5, 0, 1, 600, 1200, 2400, 4800)]
    assert steps == [0, 0, 1, 2, 3, 4, 5]


def test_what_is_learned_is_in_the_metrics_where_it_is_on() -> None:
    off = Service(Settings(address=("127.0.0.1", 0)))
    on = Service(Settings(address=("127.0.0.1", 0), learning=Learning()))
    assert "orders_total" not in off.metrics.registry.text()
    text = on.metrics.registry.text()
    assert 'deviceplugin_scheduler_orders_total{by="round_robin"} 0' in text
    assert 'deviceplugin_scheduler_model_silent{reason="none"} 1' in text


def test_whatever_is_predicted_the_node_is_one_that_the_rule_holds_for_the_best() -> None:
    chance, differed = random.Random(5), 0
    for _ in range(200):
        states = [
            NodeState(name, "T4", 32_000, 1 << 18, [chance.choice((0, 300, 1000)) for _ in "1234"])
            for name in NAMES * 3
        ]
        for number, state in enumerate(states):
            state.name = f"n{number}"
        demand = Demand(cpu_milli=1000, gpus=1, gpu_milli=chance.choice((300, 1000)))
        costs = Board(states, Workload([demand])).costs([one.name for one in states], demand)
        if not costs:
            continue
        wrong = {name: (chance.randrange(9),) for name in leading(costs)}
        best = max(scores := ranks(costs, wrong), key=scores.__getitem__)
        rules = max(scores := ranks(costs), key=scores.__getitem__)
        differed += best != rules
        assert costs[best].key // BAND == costs[rules].key // BAND
        assert sum(states[int(best[1:])].free) == sum(states[int(rules[1:])].free)
    assert differed > 20
