"""What a vendor says of memory is kept, or the device refused."""

from typing import Any

import pytest

from deviceplugin.discovery.admission import admitted, checked
from deviceplugin.model import Discovery
from tests.discovery.test_admission import device


@pytest.mark.parametrize("memory", [None, 0, 1, 80 << 30])
def test_a_device_with_any_possible_memory_is_taken_over(memory: int | None) -> None:
    found = Discovery(devices=(device("a", memory_bytes=memory),))
    assert checked("ours", found) == (found, ())


@pytest.mark.parametrize("memory", [True, 1.5, "1", -1])
def test_a_device_with_an_impossible_memory_is_refused(memory: Any) -> None:
    found, refused = checked("ours", Discovery(devices=(device("a", memory_bytes=memory),)))
    assert found.devices == ()
    assert [(r.device, f"memory_bytes is {memory!r}" in r.reason) for r in refused] == [("a", True)]


def test_a_vendor_of_the_order_comes_before_one_that_the_order_lacks() -> None:
    mine, other = device("same"), device("same", "acme")
    found = admitted("ours", Discovery(devices=(mine,)), [other], ("ours",))
    assert found.devices == (mine,)
    assert found.displaced == {"acme": ()}
    found = admitted("acme", Discovery(devices=(other,)), [mine], ("ours",))
    assert found.devices == ()
    assert found.displaced == {}
