"""What GPUs draw, where an option says so: what it does to a choice, and to a simulation."""

import pytest

from deviceplugin.cli.power import parse_power
from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.about import About
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.packing import Cost, cost
from deviceplugin.scheduler.partitions import CutGpu, Shape
from deviceplugin.scheduler.parts import Weights
from deviceplugin.scheduler.power import Draw, Power
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.policies import POLICIES, policies
from deviceplugin.simulate.replay import Replay
from deviceplugin.simulate.report import document_of, simulation_text

DRAWS = {"small": Draw(10, 70), "large": Draw(50, 450)}
POWER = Power(weight=20, draws=DRAWS)
HALF = Demand(gpus=1, gpu_milli=500)
PART = "nvidia.com/mig-1g.10gb"


def priced(model: str, demand: Demand, *free: int, power: Power = POWER) -> Cost:
    node = NodeState("n", model, 64_000, 500_000, list(free))
    found = cost(node, demand, Workload([demand]), Weights(power=power))
    assert found is not None
    return found


def test_a_gpu_that_draws_less_is_cheaper_by_the_weight() -> None:
    whole = Demand(gpus=1)
    assert priced("large", whole, 1000).watts == 400
    assert priced("small", whole, 1000).key < priced("large", whole, 1000).key
    off = Power(draws=DRAWS)
    assert (
        priced("small", whole, 1000, power=off).key == priced("large", whole, 1000, power=off).key
    )


def test_a_gpu_that_is_in_use_draws_no_more_for_another_pod() -> None:
    assert priced("large", HALF, 500).watts == 0
    assert priced("large", HALF, 1000).watts == 400


def test_what_a_model_draws_is_not_known_of_others() -> None:
    assert priced("other", HALF, 1000).watts == 0


def test_a_part_wakes_a_gpu_that_nobody_uses() -> None:
    wanted = Demand(parts=((PART, 1),))
    shape = Shape(8, 1, tuple(range(7)))
    for used, watts in ((0, 400), (1, 0)):
        node = NodeState("n", "large", 9_000, 9_000, [], parts={PART: 2})
        node.about, node.cut = About(), {0: CutGpu(used, {PART: (shape, (1, 2))})}
        found = cost(node, wanted, Workload([wanted]), Weights(power=POWER))
        assert found is not None
        assert found.watts == watts


def test_a_simulation_tells_what_gpus_draw_and_compares_the_policy_that_counts_it() -> None:
    nodes = [NodeState(f"n{n}", m, 64_000, 500, [1000] * 2) for n, m in enumerate(DRAWS)]
    pods = [Demand(gpus=1)] * 2
    found = {
        name: [Replay(nodes, pods, cost_of, POWER).run(pods, seed=1)]
        for name, cost_of in policies(POWER).items()
    }
    assert set(found) == {*POLICIES, "power"}
    assert found["power"][0].points[-1].watts == 2 * 70 + 2 * 50
    document = document_of(found)
    assert document["policies"][-1]["drawn_watts"] == 240
    assert "WATTS" in simulation_text(document)


def test_without_what_gpus_draw_nothing_is_told_of_it() -> None:
    assert policies(Power()) == POLICIES
    pods = [Demand(gpus=1)]
    nodes = [NodeState("n", "small", 64_000, 500, [1000])]
    document = document_of({"packing": [Replay(nodes, pods, cost).run(pods, seed=1)]})
    assert "drawn_watts" not in document["policies"][0]
    assert "WATTS" not in simulation_text(document)


def test_the_flags_are_read() -> None:
    power = parse_power("NVIDIA-A10=25:150, T4=10:70", "7")
    assert power == Power(weight=7, draws={"NVIDIA-A10": Draw(25, 150), "T4": Draw(10, 70)})
    assert parse_power(None, "7") == Power()


@pytest.mark.parametrize(
    ("draws", "weight", "told"),
    [
        ("T4", "5", "MODEL=IDLE:FULL"),
        ("T4=70:10", "5", "the second the greater"),
        ("=1:2", "5", "MODEL=IDLE:FULL"),
        ("T4=nan:70", "5", "MODEL=IDLE:FULL"),
        ("T4=10:70", "x", "--power-weight"),
        ("T4=10:70", "10001", "a number from 0 to 10000"),
    ],
)
def test_flags_that_say_nothing_are_told(draws: str, weight: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_power(draws, weight)
