"""Less fragmentation than first-fit and than the pair-score method over random pods."""

import pytest

from tests.placement import boxes
from tests.placement.boxes import Box
from tests.placement.churn import churn, first_fit, ours, pair_score, pairs_of


@pytest.mark.parametrize("sizes", [(1, 2), (1, 1, 2), (1, 2, 3, 4), (1, 1, 1, 2, 2, 4)], ids=str)
@pytest.mark.parametrize("count", [4, 8])
def test_more_pairs_stay_whole_and_more_requests_get_one(
    count: int, sizes: tuple[int, ...]
) -> None:
    box = Box(boxes.nvlink_pairs(count))
    mine, first, scored = (
        churn(box.ids, pairs_of(box), choose, list(sizes))
        for choose in (ours(box), first_fit, pair_score(box))
    )
    assert mine.pairs_whole > scored.pairs_whole > first.pairs_whole
    assert mine.joined >= scored.joined > first.joined
    assert mine.asked == scored.asked == first.asked
