"""The operator's policy: classes, disabled and enabled faults, and the field's two variables."""

import msgspec
import pytest

from deviceplugin.config.load import CORE_SECTIONS
from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.health.policy import Verdicts, judged
from deviceplugin.health.section import HealthSection, with_health_variables
from deviceplugin.model import DeviceID, Fault, FaultClass


def xid(code: int, kind: FaultClass) -> Fault:
    return Fault(
        device=DeviceID("GPU-a"), source="nvidia.xid", code=str(code), reason="r", kind=kind
    )


REMAP = Fault(device=DeviceID("GPU-a"), source="nvidia.memory", code="remap_failure", reason="r")


def verdicts(disabled: str, enabled: str) -> Verdicts:
    return Verdicts(
        disabled=frozenset(disabled.split(",")) - {""},
        enabled=frozenset(enabled.split(",")) - {""},
    )


@pytest.mark.parametrize(
    ("disabled", "enabled", "withdrawn"),
    [
        ("", "", {"79", "remap"}),
        ("all", "", set()),
        ("xids", "", {"remap"}),
        ("79", "", {"remap"}),
        ("all", "79", {"79"}),
        ("xids", "13", {"13", "remap"}),
        ("", "13", {"13", "79", "remap"}),
        ("all", "all", {"13", "79", "remap"}),
        ("nvidia.memory", "", {"79"}),
        ("nvidia.memory/remap_failure", "", {"79"}),
        ("nvidia.xid/79", "", {"remap"}),
    ],
)
def test_enabled_wins_over_disabled(disabled: str, enabled: str, withdrawn: set[str]) -> None:
    policy = verdicts(disabled, enabled)
    faults = {"79": xid(79, FaultClass.REBOOT), "13": xid(13, FaultClass.APP), "remap": REMAP}
    found = {name: judged(fault, policy) for name, fault in faults.items()}
    assert {name for name, fault in found.items() if fault and fault.kind.withdraws} == withdrawn


def test_a_class_can_be_set_for_a_code() -> None:
    policy = Verdicts(classes={"nvidia.xid/79": FaultClass.WARN})
    found = judged(xid(79, FaultClass.REBOOT), policy)
    assert found is not None
    assert found.kind is FaultClass.WARN


def test_the_variables_replace_the_keys_of_the_file_and_skip_what_names_nothing() -> None:
    raw = {"health": {"disable": ["79"], "hold_s": 1}}
    environ = {"DP_DISABLE_HEALTHCHECKS": "XIDS, 13 ,,!", "DP_ENABLE_HEALTHCHECKS": ""}
    assert with_health_variables(raw, environ) == {
        "health": {"disable": ["xids", "13"], "hold_s": 1}
    }
    assert with_health_variables({}, {}) == {}


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"hold": 1}, "health.hold"),
        ({"hold_s": -1}, "health.hold_s"),
        ({"hold_s": 700}, "hold_max_s"),
        ({"classes": {"nvidia.xid/79": "fatal"}}, "fatal"),
        ({"classes": {"79": "warn"}}, "source/code"),
        ({"disable": ["!"]}, "names no fault"),
        ({"repeats": {"nvidia.xid/31": {"count": 0, "window_s": 1, "class": "warn"}}}, "count"),
    ],
)
def test_a_wrong_key_or_value_is_named(section: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        decode_sections({"health": section}, CORE_SECTIONS)


def test_the_defaults_are_printable_as_a_document() -> None:
    document = msgspec.to_builtins(HealthSection())
    assert document["repeats"]["nvidia.clocks/hw_slowdown"] == {
        "count": 6,
        "window_s": 600.0,
        "class": "hardware",
    }
