"""Every capture in tests/captures, replayed: what was found on that machine is found again."""

import json
import re
from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.hardware.replay import (
    discovered,
    main,
    replay_problems,
    replayed,
    vendors_of,
)
from deviceplugin.vendor import HealthProbe

CAPTURES = Path(__file__).parents[2] / "captures"
ALL = sorted(path.parent for path in CAPTURES.glob("*/capture.json"))
CASES = [pytest.param(c, v, id=f"{c.name}-{v}") for c in ALL for v in vendors_of(c)]


@pytest.mark.parametrize("capture", ALL, ids=lambda path: path.name)
def test_a_capture_gives_what_was_found(capture: Path) -> None:
    assert vendors_of(capture)
    assert replay_problems(capture) == []


@pytest.mark.parametrize(("capture", "name"), CASES)
def test_a_capture_keeps_the_contract_of_vendors(capture: Path, name: str, tmp_path: Path) -> None:
    vendor = replayed(capture, name, tmp_path)
    assert contract_problems(vendor, Host(tmp_path / name)) == []


@pytest.mark.parametrize(("capture", "name"), CASES)
def test_a_captured_gpu_can_be_asked_for_its_health(
    capture: Path, name: str, tmp_path: Path
) -> None:
    vendor = replayed(capture, name, tmp_path)
    whole = [device for device in vendor.discover().devices if device.parent is None]
    assert isinstance(vendor, HealthProbe)
    for device in whole:
        vendor.probe_health(device)


@pytest.mark.parametrize("capture", ALL, ids=lambda path: path.name)
def test_a_capture_says_what_was_redacted(capture: Path) -> None:
    about = json.loads((capture / "capture.json").read_text())
    assert about["format"] == 1
    assert about["redacted"]["host name"] == 1
    assert re.fullmatch(
        r"node-[0-9a-f]{8}", json.loads((capture / "discover.json").read_text())["node"]
    )


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A capture of which one product was recorded otherwise."""
    capture = tmp_path / "changed"
    capture.mkdir()
    for path in ALL[0].iterdir():
        (capture / path.name).write_bytes(path.read_bytes())
    (name, *_) = vendors_of(capture)
    recorded = json.loads((capture / f"{name}.json").read_text())
    recorded["discovery"]["devices"][0]["product"] = "another"
    (capture / f"{name}.json").write_text(json.dumps(recorded))
    return capture


def test_what_has_become_different_is_told(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(changed)]) == 1
    assert "product was 'another', is " in capsys.readouterr().out


def test_what_is_found_now_can_be_accepted(changed: Path) -> None:
    assert main([str(changed), "--accept"]) == 0
    assert main([str(changed)]) == 0
    (name, *_) = vendors_of(changed)
    products = [device["product"] for device in discovered(changed, name)["devices"]]
    assert products == [device["product"] for device in discovered(ALL[0], name)["devices"]]


def test_intels_answer_of_a_drm_node_is_given_again(tmp_path: Path) -> None:
    (capture,) = (path for path in ALL if path.name == "simulated-b60-x1")
    recorded = json.loads((capture / "intel.json").read_text())
    assert recorded["queries"] == {"xe /dev/dri/card1": None}
    again = tmp_path / "again"
    again.mkdir()
    (again / "intel.tree").write_text((capture / "intel.tree").read_text())
    answer = {"xe /dev/dri/card1": 24385683456}
    (again / "intel.json").write_text(json.dumps(recorded | {"queries": answer}))
    (device,) = replayed(again, "intel", tmp_path).discover().devices
    assert device.memory_bytes == 24385683456


def test_newer_code_may_find_more_and_not_less(changed: Path) -> None:
    (name, *_) = vendors_of(changed)
    recorded = json.loads((changed / f"{name}.json").read_text())
    device = recorded["discovery"]["devices"][0]
    device["product"] = discovered(ALL[0], name)["devices"][0]["product"]
    known = device["attributes"]
    device["attributes"] = {}
    (changed / f"{name}.json").write_text(json.dumps(recorded))
    assert replay_problems(changed) == []
    device["attributes"] = known | {"colour": "green"}
    (changed / f"{name}.json").write_text(json.dumps(recorded))
    (problem,) = replay_problems(changed)
    assert "attributes was " in problem
