"""Golden tables of the policy `aligned`: sizes 1 to all on the boxes that people have."""

from itertools import combinations

import pytest

from deviceplugin.model import DeviceID, LinkKind
from tests.placement import boxes
from tests.placement.boxes import Box


def wanted(text: str) -> tuple[str, ...]:
    return tuple(f"g{int(number):02d}" for number in text.split())


BOXES = {
    "dgx_a100": boxes.dgx_a100(),
    "hgx_h100": boxes.hgx_h100(),
    "nvlink_pairs": boxes.nvlink_pairs(),
    "mi210": boxes.mi210(),
    "pcie_only": boxes.pcie_only(),
}


@pytest.mark.parametrize(
    ("box", "available", "must", "size", "answer"),
    [
        pytest.param(*row, id=f"{row[0]}:{row[3]}of[{row[1]}]with[{row[2]}]")
        for row in [
            ("nvlink_pairs", "0 1 2 3", "", 1, "0"),
            ("nvlink_pairs", "0 1 2 3", "", 2, "0 1"),
            ("nvlink_pairs", "0 1 2 3", "", 3, "0 1 2"),
            ("nvlink_pairs", "0 1 2 3", "", 4, "0 1 2 3"),
            # A GPU whose partner is taken goes first: no pair is broken.
            ("nvlink_pairs", "0 2 3", "", 1, "0"),
            ("nvlink_pairs", "1 2 3", "", 1, "1"),
            ("nvlink_pairs", "0 1 3", "", 1, "3"),
            ("nvlink_pairs", "0 2 3", "", 2, "2 3"),
            ("nvlink_pairs", "0 2 3", "0", 2, "0 2"),
            ("nvlink_pairs", "0 1 2 3", "2", 2, "2 3"),
            ("nvlink_pairs", "0 1 2 3", "1 2", 3, "0 1 2"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 1, "0"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 2, "0 1"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 3, "0 1 2"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 4, "0 1 2 3"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 5, "0 1 2 3 4"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 6, "0 1 2 3 4 5"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 7, "0 1 2 3 4 5 6"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "", 8, "0 1 2 3 4 5 6 7"),
            ("dgx_a100", "1 2 3 4 5 6 7", "", 1, "1"),
            ("dgx_a100", "1 2 4 5 6 7", "", 2, "4 5"),
            ("dgx_a100", "0 1 2 3 4 5 6 7", "6", 2, "6 7"),
            ("hgx_h100", "0 1 2 3 4 5 6 7", "", 1, "0"),
            ("hgx_h100", "0 1 2 3 4 5 6 7", "", 2, "0 1"),
            ("hgx_h100", "0 1 2 3 4 5 6 7", "", 4, "0 1 2 3"),
            ("hgx_h100", "2 3 4 5 6 7", "", 2, "2 3"),
            ("hgx_h100", "2 3 4 5 6 7", "", 4, "4 5 6 7"),
            ("hgx_h100", "0 1 2 3 4 5 6 7", "", 8, "0 1 2 3 4 5 6 7"),
            ("mi210", "0 1 2 3 4 5 6 7", "", 1, "0"),
            ("mi210", "0 1 2 3 4 5 6 7", "", 2, "0 1"),
            ("mi210", "0 1 2 3 4 5 6 7", "", 4, "0 1 2 3"),
            ("mi210", "0 1 2 3 4 5 6 7", "", 5, "0 1 2 3 4"),
            ("mi210", "1 2 3 4 5 6 7", "", 1, "1"),
            ("mi210", "1 2 3 4 5 6 7", "", 2, "1 2"),
            ("mi210", "1 2 3 4 5 6 7", "", 3, "1 2 3"),
            ("mi210", "1 2 3 4 5 6 7", "", 4, "4 5 6 7"),
            ("mi210", "2 3 6 7", "", 2, "2 3"),
            ("mi210", "0 1 2 3 4 5 6 7", "3 4", 4, "0 1 3 4"),
            ("pcie_only", "0 1 2 3 4 5 6 7", "", 1, "0"),
            ("pcie_only", "0 1 2 3 4 5 6 7", "", 2, "0 1"),
            ("pcie_only", "0 1 2 3 4 5 6 7", "", 3, "0 1 2"),
            ("pcie_only", "0 1 2 3 4 5 6 7", "", 4, "0 1 2 3"),
            ("pcie_only", "0 2 4 5 6 7", "", 1, "0"),
            ("pcie_only", "1 3 5 6 7", "", 2, "6 7"),
            ("pcie_only", "1 3 4 5 6", "", 3, "4 5 6"),
        ]
    ],
)
def test_whole_gpus_are_the_best_connected_set(
    box: str, available: str, must: str, size: int, answer: str
) -> None:
    asked = Box(BOXES[box]).ask(size, wanted(available), wanted(must))
    assert asked == wanted(answer)


@pytest.mark.parametrize("size", range(1, 65))
def test_partitions_stay_on_as_few_gpus_as_hold_them(size: int) -> None:
    answer = Box(boxes.mi300x_cpx()).ask(size, policy="aligned")
    assert len({part.split(".")[0] for part in answer}) == -(-size // 8)


def test_a_pair_without_information_is_the_worst() -> None:
    devices = boxes.gpus(
        3,
        lambda a, b: [(LinkKind.PCIE, 1, 50)] if (a, b) == (1, 2) else [],
        lambda _: None,
    )
    assert Box(devices).ask(2) == ("g01", "g02")


def test_unlinked_gpus_come_in_the_order_of_their_addresses() -> None:
    assert Box(boxes.unlinked()).ask(3) == ("g00", "g01", "g02")


@pytest.mark.parametrize("name", BOXES)
def test_every_size_has_an_exact_answer_on_a_box_that_is_free(name: str) -> None:
    box = Box(BOXES[name])
    between = box.context.topology.between

    def cost(ids: tuple[str, ...]) -> int:
        return sum(between(DeviceID(a), DeviceID(b)).cost for a, b in combinations(ids, 2))

    for size in range(1, len(box.ids) + 1):
        assert cost(box.ask(size)) == min(map(cost, combinations(box.ids, size)))
