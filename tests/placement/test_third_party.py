"""Policies of others, through their entry point as an installed package has it."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from deviceplugin.model import AdvertisedID, Preference
from deviceplugin.placement.prefer import prefer
from deviceplugin.placement.registry import installed_policies, load_policy
from deviceplugin.placement.section import policies_asked_for
from deviceplugin.placement.service import Placement, settings_of
from deviceplugin.schema import Scheduling, Section
from tests.placement import boxes
from tests.placement.boxes import Box
from tests.rig import run_command

BOX = Box(boxes.nvlink_pairs(4))
MODULE = """
def last_first(resource, preference, context):
    return sorted(preference.available, reverse=True)

def raises(resource, preference, context):
    raise KeyError("bug")

def nothing(resource, preference, context):
    return None

def strange(resource, preference, context):
    return [7, "elsewhere", *[min(preference.available)] * 2]

number = 7
"""
ENTRY_POINTS = """[deviceplugin.policies]
last_first = others_policies:last_first
raises = others_policies:raises
nothing = others_policies:nothing
strange = others_policies:strange
missing = others_policies:missing
number = others_policies:number
aligned = others_policies:raises
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "others_policies.py").write_text(MODULE)
    info = tmp_path / "others_policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others-policies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "must", "answer"),
    [
        pytest.param("last_first", (), ("g02", "g03"), id="its choice"),
        pytest.param("last_first", ("g00",), ("g00", "g03"), id="its choice with what must be"),
        pytest.param("raises", ("g02",), ("g00", "g02"), id="the plain order where it raises"),
        pytest.param("nothing", (), ("g00", "g01"), id="the plain order where it says nothing"),
        pytest.param("strange", ("g03",), ("g00", "g03"), id="topped up and without strangers"),
    ],
)
def test_what_leaves_is_right_whatever_a_policy_says(
    name: str, must: tuple[str, ...], answer: tuple[str, ...]
) -> None:
    included = tuple(map(AdvertisedID, must))
    asked = Preference(available=frozenset(BOX.ids), must_include=frozenset(included), size=2)
    assert prefer(BOX.resource, asked, BOX.context, load_policy(name)) == answer


def test_the_names_of_ours_cannot_be_taken() -> None:
    assert installed_policies().count("aligned") == 1
    asked = Preference(available=frozenset(BOX.ids[1:]), must_include=frozenset(), size=2)
    assert prefer(BOX.resource, asked, BOX.context, load_policy("aligned")) == ("g02", "g03")


def test_a_policy_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ConfigError, match="missing"):
        load_policy("missing")


@pytest.mark.slow  # it starts a process
def test_every_command_refuses_a_policy_that_cannot_be_imported(tmp_path: Path) -> None:
    """`run` and a reload take the same way as `check`: they read the configuration."""
    path = tmp_path / "config.yaml"
    path.write_text("mig: {scheduling: {policy: missing}}")
    checked = run_command("check", "--config", str(path), PYTHONPATH=str(tmp_path))
    assert checked.returncode == 2
    assert "mig.scheduling.policy: 'missing' is not valid" in checked.stderr
    assert "an importable policy (AttributeError" in checked.stderr


def test_a_policy_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="7 is not"):
        load_policy("number")


async def of_vendor(tmp_path: Path, policy: str) -> tuple[Placement, Box]:
    """A node whose devices ask for a policy in code."""
    devices = [replace(device, policy=policy) for device in boxes.nvlink_pairs(4)]
    box = Box(devices)
    placement = Placement(Host(tmp_path), settings_of({}, "node-a"), tmp_path)
    await placement.look(box.inventory)
    await placement.lay_out([box.resource])
    return placement, box


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("last_first", ("g02", "g03")), ("spread", ("g00", "g02")), ("raises", ("g00", "g01"))],
)
async def test_a_policy_that_a_vendor_asks_for_in_code_is_used(
    tmp_path: Path, policy: str, expected: tuple[str, ...]
) -> None:
    placement, box = await of_vendor(tmp_path, policy)
    assert placement.policy_of(box.resource) == policy
    asked = Preference(available=frozenset(box.ids), must_include=frozenset(), size=2)
    assert placement.prefer(box.resource, asked) == expected


@pytest.mark.parametrize("policy", ["bogus", "missing"])
async def test_one_that_cannot_be_had_is_told_once_and_the_default_used(
    tmp_path: Path, policy: str
) -> None:
    with capture_logs() as logs:
        placement, box = await of_vendor(tmp_path, policy)
        await placement.lay_out([replace(box.resource)])
    (line,) = logs
    assert (line["event"], line["device"]) == ("placement_configuration", "g00")
    assert f"policy: '{policy}' is not valid" in line["reason"]
    assert placement.policy_of(box.resource) == "aligned"


class Own(Section, frozen=True):
    """A vendor's section with keys that mean something else than ours."""

    scheduling_policy: str = "hard"
    scheduling: str = "gang"
    nested: Scheduling = Scheduling(policy="bogus")


class Mapped(Section, frozen=True):
    scheduling: dict[str, str]


def test_a_vendors_own_key_named_scheduling_is_its_own() -> None:
    found = policies_asked_for({"own": Own(), "mapped": Mapped(scheduling={"policy": "fifo"})})
    assert found == {"own.nested.policy": "bogus"}
