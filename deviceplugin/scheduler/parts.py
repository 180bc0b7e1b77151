"""The two parts of a cost beside packing, in thousandths of a GPU: how well GPUs and node fit each
other and the pod (affinity), and how busy and ill they are (balance); pure."""

from collections.abc import Sequence
from itertools import combinations

from msgspec import Struct

from deviceplugin.scheduler.about import About, Wants
from deviceplugin.scheduler.power import NO_POWER, Power

FARTHEST = 40_000  # the cost of a pair across sockets, docs/placement.md
NO_LEVEL = 60
HOT_CELSIUS = 80


class Weights(Struct, frozen=True, kw_only=True):
    """How much each part counts: GPUResourceFit, GPUAffinity and GPULoadBalancing, and the power
    that GPUs take."""

    fit: int = 50
    affinity: int = 30
    balance: int = 20
    power: Power = NO_POWER


WHOLE_FIT = 50  # packing counts as it is with this weight


def affinity(about: About, wants: Wants, chosen: Sequence[int]) -> float:
    """From 0, as near as can be, to some thousands. What is not known costs nothing."""
    cost = 0.0
    if about.gpus and len(chosen) > 1 and (about.links or about.measured):
        pairs = [about.link(a, b) for a, b in combinations(chosen, 2)]
        cost += 1000 * min(1.0, sum(pairs) / len(pairs) / FARTHEST)
    if wants.near_nic or about.policy == "proximity":
        levels = [about.gpus[i].nic_level for i in chosen if i < len(about.gpus)]
        known = [level for level in levels if level is not None]
        far = sum(known) / len(known) / NO_LEVEL if known else 1.0
        cost += 1000 * far
    if wants.domain and about.domain != wants.domain:
        cost += 1000
    return cost


def balance(about: About, wants: Wants, chosen: Sequence[int], used: Sequence[int]) -> float:
    """From 0, idle, cool and well, upwards; `used` has thousandths in use of each chosen GPU."""
    cost, count = 0.0, len(chosen) or 1
    for index in chosen:
        if index < len(about.gpus):
            gpu = about.gpus[index]
            cost += 100 * (gpu.load or 0)
            cost += 500 if (gpu.celsius or 0) >= HOT_CELSIUS else 0
            cost += 1000 if gpu.warned else 0
    if wants.idle or about.policy == "real_time":
        cost += 2.5 * sum(used)  # at the weight of 20 it counts as it is
    if about.policy == "priority" and chosen and not wants.favoured:
        cost += 5000 * count  # such a node is for those that are favoured
    return cost / count
