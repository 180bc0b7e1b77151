"""How long GetPreferredAllocation thinks, and what it leaves whole: `python -m bench.placement`.

Times are of the pure call on prepared values, as the daemon makes it: processor time, which other
work on the machine does not lengthen much.
"""

import random
import statistics
import time
from collections.abc import Iterable, Sequence

from msgspec import Struct

from deviceplugin.model import AdvertisedID, Device, LinkKind, Preference, Resource
from deviceplugin.placement.prefer import BUILT_IN, prefer
from deviceplugin.placement.topology import PciTopology, topology_of
from deviceplugin.placement.view import Context
from tests.placement import boxes
from tests.placement.boxes import Box
from tests.placement.churn import churn, first_fit, ours, pair_score, pairs_of


class Case(Struct, frozen=True, kw_only=True):
    """Questions about one resource; `sizes` are asked with everything free and with a part."""

    name: str
    resource: Resource
    context: Context
    sizes: Sequence[int]
    limit_ms: float


def cases() -> Iterable[Case]:
    """The node kinds that the limits speak of."""
    for name, devices in (
        ("16 GPUs, NVLink pairs", boxes.nvlink_pairs(16)),
        ("16 GPUs, PCIe only", boxes.pcie_only(16)),
        ("16 GPUs, irregular links", irregular(16)),
        ("16 GPUs, no information", boxes.unlinked(16)),
        ("64 partitions of 8 GPUs (MI300X CPX)", boxes.mi300x_cpx()),
        ("64 partitions of 16 GPUs", boxes.parts(boxes.pcie_only(16), 4)),
        ("64 partitions of 8 irregular GPUs", boxes.parts(irregular(8), 8)),
    ):
        box = Box(devices)
        sizes = range(1, len(box.ids) + 1)
        yield Case(name=name, resource=box.resource, context=box.context, sizes=sizes, limit_ms=5)
    yield slices()


def slices() -> Case:
    """60,000 replicas of 8 GPUs."""
    resource, devices = boxes.replicated(boxes.pcie_only(8), 7500)
    topology = topology_of(boxes.inventory(devices.values()), PciTopology())
    context = Box.prepared(resource, Context(topology=topology))
    sizes = (1, 2, 7, 100, 7_500, 20_000, 30_000, 59_999)
    return Case(
        name="60,000 slices of 8 GPUs", resource=resource, context=context, sizes=sizes, limit_ms=50
    )


def irregular(count: int) -> tuple[Device, ...]:
    """GPUs whose links follow no pattern."""
    dice = random.Random(count)  # a table of numbers
    return boxes.gpus(
        count,
        lambda *_: [(LinkKind.PCIE, 1, dice.choice((10, 20, 30, 40, 50)))],
        lambda n: n // (count // 2),
    )


def questions(case: Case, rounds: int) -> Iterable[Preference]:
    """Every size with all ids, with a random part of them, and with must-include ids, each in
    random order as the kubelet sends them."""
    dice = random.Random(7)  # a benchmark
    ids = [entry.id for entry in case.resource.devices]
    for number in range(rounds):
        for size in case.sizes:
            share = len(ids) if number % 3 == 0 else dice.randint(size, len(ids))
            available = dice.sample(ids, share)
            must: list[AdvertisedID] = available[: dice.randint(1, size)] if number % 3 == 2 else []
            yield Preference(
                available=frozenset(available), must_include=frozenset(must), size=size
            )


def measure(case: Case, policy: str) -> list[float]:
    """Milliseconds of each question."""
    spent = []
    for question in questions(case, rounds=15 if len(case.resource.devices) > 1000 else 30):
        started = time.process_time()
        prefer(case.resource, question, case.context, BUILT_IN[policy])
        spent.append((time.process_time() - started) * 1000)
    return sorted(spent)


def times() -> bool:
    """Print a line for each node and policy; whether all are within their limits."""
    kept = True
    print(f"{'node':40}{'policy':13}{'calls':>6}{'median':>9}{'p99':>9}{'limit':>7}  ms")
    for case in cases():
        for policy in BUILT_IN:
            spent = measure(case, policy)
            p99 = spent[int(len(spent) * 0.99)]
            kept = kept and p99 < case.limit_ms
            print(
                f"{case.name:40}{policy:13}{len(spent):6}{statistics.median(spent):9.2f}"
                f"{p99:9.2f}{case.limit_ms:7.0f}{'' if p99 < case.limit_ms else '  MISSED'}"
            )
    return kept


def fragmentation() -> None:
    """Print what 1,000 random arrivals and departures leave whole."""
    print("\n1,000 arrivals and departures: free pairs that are whole, requests that got bridges")
    for count in (4, 8):
        box = Box(boxes.nvlink_pairs(count))
        for sizes in ([1, 2], [1, 1, 2], [1, 2, 3, 4]):
            choices = (
                ("aligned", ours(box)),
                ("first-fit", first_fit),
                ("pair score", pair_score(box)),
            )
            for name, choose in choices:
                got = churn(box.ids, pairs_of(box), choose, sizes)
                print(
                    f"{count} GPUs, sizes {sizes!s:14}{name:11}"
                    f"{got.pairs_whole:6.3f} of {got.pairs_possible:.3f} pairs,"
                    f" {got.joined:4} of {got.asked} requests"
                )


def main() -> int:
    """The exit status says whether every limit is kept."""
    kept = times()
    fragmentation()
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
