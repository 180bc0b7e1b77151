"""The table of common fault codes, and the form that every code and source has."""

import pytest

from deviceplugin.faults import (
    COMMON,
    FORMER_NAMES,
    NODE_MISSING,
    UNREADABLE,
    code_problem,
    former_name,
    source_problem,
    spellings,
)
from deviceplugin.model import DeviceID, Fault, FaultClass

GPU = DeviceID("GPU-a")


@pytest.mark.parametrize("code", COMMON)
def test_a_common_code_has_the_form_that_it_asks_of_others(code: str) -> None:
    common = COMMON[code]
    assert common.code == code
    assert code_problem(code) is None
    fault = common.fault(GPU, "acme.part", "the thing")
    assert fault.kind is common.kind
    assert fault.action
    assert "{" not in fault.reason
    assert ("the thing" in fault.reason) == ("{what}" in common.reason)


def test_a_vendor_may_know_better_what_to_do() -> None:
    fault = NODE_MISSING.fault(
        GPU, "acme.discovery", "/dev/acme{0}", kind=FaultClass.WARN, action="run acme-setup"
    )
    assert fault == Fault(
        device=GPU,
        source="acme.discovery",
        code="node_missing",
        reason="device node /dev/acme{0} does not exist",
        kind=FaultClass.WARN,
        action="run acme-setup",
    )


def test_a_device_that_cannot_be_read_is_unhealthy_with_every_vendor() -> None:
    assert UNREADABLE.kind.withdraws


@pytest.mark.parametrize("code", ["79", "node_missing", "ue_umc", "x" * 63])
def test_a_code_is_snake_case(code: str) -> None:
    assert code_problem(code) is None


@pytest.mark.parametrize("code", ["", "missing-node", "NodeMissing", "a__b", "_a", "a b", "x" * 64])
def test_anything_else_is_not_a_code(code: str) -> None:
    assert code_problem(code)


@pytest.mark.parametrize("source", ["acme.xid", "acme.gpu_health", "acme.hbm.ecc"])
def test_a_source_begins_with_its_vendor(source: str) -> None:
    assert source_problem("acme", source) is None


@pytest.mark.parametrize(
    "source", ["", "acme", "acme.", "nvidia.xid", "acmes.xid", "acme.Xid", "acme." + "x" * 130]
)
def test_anything_else_is_not_a_source(source: str) -> None:
    assert source_problem("acme", source)


def test_a_former_name_leads_to_a_name_of_the_right_form() -> None:
    for name in FORMER_NAMES:
        vendor, _, _ = name.partition(".")
        source, _, code = name.rpartition("/")
        assert code_problem(code) is None
        assert source_problem(vendor, source) is None
    assert former_name("amd.discovery/node_missing") == "amd.discovery/missing-node"
    assert former_name("acme.wedged/bus_reset") == "acme.wedged/bus-reset"
    assert former_name("acme.discovery/node_missing") is None
    assert former_name("nonsense") is None


def test_a_fault_is_known_by_its_old_name_and_by_its_new_one() -> None:
    new, old = "acme.wedged/bus_reset", "acme.wedged/bus-reset"
    assert spellings(new) == (new, old)
    assert spellings(old) == (old, new)
    assert spellings("nvidia.xid/79") == ("nvidia.xid/79",)
