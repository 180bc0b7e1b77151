"""What the values of the package are: structs, which cost a start next to nothing."""

import ast
from pathlib import Path

import pytest

import deviceplugin
from deviceplugin.api import Device, DeviceID, Fault, Finding, Link, replace
from deviceplugin.resources.ledger import Holder

PACKAGE = Path(deviceplugin.__file__).parent
DEVICE = Device(id=DeviceID("gpu-0"), vendor="acme")
FAULT = Fault(device=DEVICE.id, source="acme.discovery", code="gone", reason="it is gone")


def test_no_module_of_the_package_imports_dataclasses() -> None:
    """Each class of theirs is compiled at every start (docs/decisions/0016)."""
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and node.module == "dataclasses")
        or (isinstance(node, ast.Import) and any(n.name == "dataclasses" for n in node.names))
    ]
    assert users == []


def test_equal_content_is_an_equal_value_with_an_equal_hash() -> None:
    assert replace(FAULT, since=1.0) == FAULT.stamped(1.0) != FAULT
    assert len({FAULT, FAULT.stamped(None), FAULT.stamped(1.0)}) == 2


def test_a_value_of_another_type_is_never_equal() -> None:
    class Like(Device, frozen=True, kw_only=True):
        """A device of somebody's own."""

    assert Like(id=DEVICE.id, vendor=DEVICE.vendor) != DEVICE
    fields: object = tuple(getattr(FAULT, name) for name in FAULT.__struct_fields__)
    assert fields != FAULT


def test_a_value_does_not_change() -> None:
    with pytest.raises(AttributeError, match="immutable type: 'Fault'"):
        FAULT.reason = "another"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        FAULT.severity = 1  # type: ignore[attr-defined]


def test_a_value_is_made_by_keyword_from_fields_that_it_has() -> None:
    with pytest.raises(TypeError, match="Extra positional arguments"):
        Link(DeviceID("gpu-1"), "RING")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Missing required argument 'vendor'"):
        Device(id=DEVICE.id)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field 'color'"):
        replace(DEVICE, color="red")


def test_a_value_prints_its_fields() -> None:
    assert repr(Link(peer=DEVICE.id, kind="RING")) == (
        "Link(peer='gpu-0', kind='RING', width=1, weight=None, cost=None)"
    )


def test_holders_are_sorted_by_their_fields() -> None:
    first, second = (
        Holder(namespace="a", pod=pod, container="z" if pod == "b" else "a") for pod in "bc"
    )
    assert sorted([second, first]) == [first, second]


def test_a_counter_given_by_its_old_name_is_the_same_finding() -> None:
    assert Finding(mark=7) == Finding(reset_counter=7)
    assert Finding(mark=7).mark is None
    assert replace(Finding(reset_counter=7), mark=8).reset_counter == 8
