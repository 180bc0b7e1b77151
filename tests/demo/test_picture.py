"""The picture of the node that the demo begins with."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.demo.picture import picture


def gpu(*memories: int, vendor: str = "nvidia", product: str | None = "A100") -> dict[str, Any]:
    parts = [{"profile": f"{number}g", "memory_bytes": one} for number, one in enumerate(memories)]
    return {"vendor": vendor, "product": product, "partitions": parts}


def test_each_gpu_is_a_line_below_its_vendor() -> None:
    drawn = picture({"devices": [gpu(), gpu(4, 2, 1, 1), gpu(vendor="intel", product=None)]})
    head, whole, cut, intel, last = drawn.splitlines()
    assert (head, intel) == ("nvidia", "intel")
    assert "whole" in whole
    inside = cut.partition("[")[2].rstrip("]").split("|")
    assert [part.strip() for part in inside] == ["0g", "1g", "2g", "3g"]
    assert len(inside[0]) > len(inside[1]) > len(inside[2])
    assert "GPU" in last


@given(memories=st.lists(st.none() | st.integers(1, 1 << 40), max_size=70))
def test_every_line_is_as_wide_as_the_others(memories: list[int]) -> None:
    one, other = picture({"devices": [gpu(), gpu(*memories)]}).splitlines()[1:]
    assert len(one) == len(other) <= 79


@pytest.mark.parametrize("count", [25, 64])
def test_parts_without_room_are_counted(count: int) -> None:
    assert f"{count} x partitions" in picture({"devices": [gpu(*[1] * count)]})
