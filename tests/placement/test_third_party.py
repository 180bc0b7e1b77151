"""Policies of others, through their entry point as an installed package has it."""

from pathlib import Path

import pytest

from deviceplugin.errors import ConfigError
from deviceplugin.model import AdvertisedID, Preference
from deviceplugin.placement.prefer import prefer
from deviceplugin.placement.registry import installed_policies, load_policy
from tests.placement import boxes
from tests.placement.boxes import Box

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
"""
ENTRY_POINTS = """[deviceplugin.policies]
last_first = others_policies:last_first
raises = others_policies:raises
nothing = others_policies:nothing
strange = others_policies:strange
missing = others_policies:missing
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
