"""The operator's policy: classes, disabled and enabled faults, and the field's two variables."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from deviceplugin.config.load import CORE_SECTIONS
from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.health.policy import FaultPolicy, apply_policy
from deviceplugin.health.section import HealthSection, defaults_problem, with_defaults
from deviceplugin.inventory.changes import fault_document
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.vendor import HealthDefaults, Repeat
from deviceplugin.vendors.nvidia import HEALTH_DEFAULTS
from tests.rig import run_command


def xid(code: int, kind: FaultClass) -> Fault:
    return Fault(
        device=DeviceID("GPU-a"), source="nvidia.xid", code=str(code), reason="r", kind=kind
    )


REMAP = Fault(device=DeviceID("GPU-a"), source="nvidia.memory", code="remap_failure", reason="r")


def policy_of(disabled: str, enabled: str) -> FaultPolicy:
    section = HealthSection(
        disable=tuple(filter(None, disabled.split(","))),
        enable=tuple(filter(None, enabled.split(","))),
    )
    return FaultPolicy(section=section, numbered=HEALTH_DEFAULTS.numbered)


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
    policy = policy_of(disabled, enabled)
    faults = {"79": xid(79, FaultClass.REBOOT), "13": xid(13, FaultClass.APP), "remap": REMAP}
    found = {name: apply_policy(fault, policy) for name, fault in faults.items()}
    assert {name for name, fault in found.items() if fault and fault.kind.withdraws} == withdrawn


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        (FaultClass.APP, FaultClass.RESET),
        (FaultClass.HARDWARE, FaultClass.HARDWARE),
        (FaultClass.REBOOT, FaultClass.REBOOT),
    ],
)
def test_an_xid_that_is_enabled_withdraws_in_its_own_class_if_it_has_one(
    own: FaultClass, kind: FaultClass
) -> None:
    found = apply_policy(xid(13, own), policy_of("", "13"))
    assert found is not None
    assert found.kind is kind


def test_a_fault_without_numbers_that_is_enabled_keeps_its_class() -> None:
    mild = replace(REMAP, kind=FaultClass.WARN)
    assert apply_policy(mild, policy_of("", "nvidia.memory")) == mild


def test_a_class_can_be_set_for_a_code() -> None:
    policy = FaultPolicy(section=HealthSection(classes={"nvidia.xid/79": FaultClass.WARN}))
    found = apply_policy(xid(79, FaultClass.REBOOT), policy)
    assert found is not None
    assert found.kind is FaultClass.WARN


def test_the_variables_replace_the_keys_of_the_file_and_skip_what_names_nothing() -> None:
    raw = {"health": {"disable": ["79"], "hold_s": 1}}
    environ = {"DP_DISABLE_HEALTHCHECKS": "XIDS, 13 ,,!", "DP_ENABLE_HEALTHCHECKS": ""}
    document, notes = with_defaults(raw, environ, HEALTH_DEFAULTS)
    assert notes == ()
    assert document["health"].pop("repeats")
    assert document == {"health": {"disable": ["xids", "13"], "hold_s": 1}}
    assert with_defaults({}, {}, HealthDefaults()) == ({"health": {"repeats": {}}}, ())


def test_repeats_that_are_given_replace_the_vendors() -> None:
    rule = {"acme.hbm/slow": {"count": 1, "window_s": 1, "class": "warn"}}
    document, _ = with_defaults({"health": {"repeats": rule}}, {}, HEALTH_DEFAULTS)
    assert document["health"] == {"repeats": rule}


def test_a_key_by_its_old_name_is_taken_with_a_note() -> None:
    document, notes = with_defaults({"health": {"told_s": 50}}, {}, HealthDefaults())
    section = decode_sections(document, CORE_SECTIONS)["health"]
    assert section.event_ttl_s == 50  # type: ignore[attr-defined]
    assert notes == ("health.told_s is now health.event_ttl_s; the old name is accepted until 0.3",)


def test_a_key_under_both_names_is_an_error() -> None:
    raw = {"health": {"told_s": 50, "event_ttl_s": 60}}
    with pytest.raises(ConfigError, match=r"health\.told_s.*event_ttl_s alone"):
        with_defaults(raw, {}, HealthDefaults())


@pytest.mark.slow
def test_the_old_name_is_noted_by_check(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("health: {told_s: 50}\n")
    done = run_command("check", "--config", str(path))
    assert done.returncode == 0
    assert done.stderr.startswith("renamed: health.told_s is now health.event_ttl_s")
    assert "event_ttl_s: 50" in done.stdout
    assert "nvidia.clocks/hw_slowdown" in done.stdout


def test_a_third_partys_numbers_are_not_xids() -> None:
    foreign = replace(xid(79, FaultClass.REBOOT), source="foo.xid")
    for word in ("79", "xids"):
        assert apply_policy(foreign, policy_of(word, "")) == foreign
    app = replace(foreign, kind=FaultClass.APP)
    assert apply_policy(app, policy_of("", "all")) == app


def test_a_third_partys_numbers_have_its_own_word() -> None:
    numbered = {**HEALTH_DEFAULTS.numbered, "foo_codes": "foo.code"}
    fault = replace(xid(79, FaultClass.REBOOT), source="foo.code")
    policy = FaultPolicy(section=HealthSection(disable=("foo_codes",)), numbered=numbered)
    assert apply_policy(fault, policy) is None
    assert apply_policy(xid(79, FaultClass.REBOOT), policy) is not None


def test_a_fault_is_understood_by_its_former_name() -> None:
    fault = Fault(device=DeviceID("a"), source="amd.discovery", code="node_missing", reason="r")
    for name in ("amd.discovery/missing-node", "amd.discovery/node_missing"):
        assert apply_policy(fault, policy_of(name, "")) is None
        policy = FaultPolicy(section=HealthSection(classes={name: FaultClass.WARN}))
        assert apply_policy(fault, policy) == replace(fault, kind=FaultClass.WARN)
    assert fault_document(fault)["was"] == "amd.discovery/missing-node"
    assert "was" not in fault_document(REMAP)


def test_what_a_vendor_declares_is_about_its_own_sources() -> None:
    rule = Repeat(count=1, window_s=1.0, kind=FaultClass.WARN)
    assert defaults_problem("nvidia", HEALTH_DEFAULTS) is None
    assert defaults_problem("acme", None) is None
    for bad in (
        {"repeats": {"nvidia.xid/31": rule}},
        {"numbered": {"xids": "nvidia.xid"}},
        {"variables": {"ACME_OFF": "hold_s"}},
    ):
        assert "HEALTH_DEFAULTS" in str(defaults_problem("acme", HealthDefaults(**bad)))
    assert "is dict" in str(defaults_problem("acme", {}))


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"hold": 1}, "health.hold"),
        ({"hold_s": -1}, "health.hold_s"),
        ({"hold_s": 700}, "hold_max_s"),
        ({"classes": {"nvidia.xid/79": "fatal"}}, "fatal"),
        ({"classes": {"79": "warn"}}, "such as nvidia.xid/79, not '79'"),
        ({"disable": ["!"]}, "such as nvidia.xid/79, not '!'"),
        ({"repeats": {"nvidia.xid/31": {"count": 0, "window_s": 1, "class": "warn"}}}, "count"),
    ],
)
def test_a_wrong_key_or_value_is_named(section: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        decode_sections({"health": section}, CORE_SECTIONS)


def test_the_defaults_are_printable_as_a_document() -> None:
    raw, _ = with_defaults({}, {}, HEALTH_DEFAULTS)
    document = msgspec.to_builtins(decode_sections(raw, CORE_SECTIONS)["health"])
    assert document["repeats"]["nvidia.clocks/hw_slowdown"] == {
        "count": 6,
        "window_s": 600.0,
        "class": "hardware",
    }
