"""The sections `intel` and `intel_xe` as users write them."""

import msgspec
import pytest
import yaml

from deviceplugin.vendors.intel import SECTIONS
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings

PUBLISHED = """
version: "2.0"
enabled: true
instances:
  - {name: "xe-4gb", memory: "4GiB", compute_units: 64, execution_units: 32}
  - {name: "xe-8gb", memory: "8GiB", compute_units: 128, execution_units: 64}
  - {name: "xe-16gb", memory: "16GiB", compute_units: 256, execution_units: 128}
scheduling: {policy: "fair_share", isolation: "hardware"}
"""


def test_the_published_example_is_taken_as_it_is() -> None:
    xe = msgspec.convert(yaml.safe_load(PUBLISHED), XeSettings)
    assert xe.scheduling.policy == "fair_share"
    assert xe.instance_of(4227858432) == xe.instances[0]
    assert xe.instance_of(2 << 30) is None


def test_everything_has_a_default() -> None:
    assert msgspec.convert({}, IntelSettings).device_list_strategy == ("device-specs",)
    assert msgspec.convert({}, XeSettings).enabled


@pytest.mark.parametrize(
    ("section", "value", "named"),
    [
        ("intel", {"resource_naming": "both"}, "resource_naming"),
        ("intel", {"monitoring": -1}, "monitoring"),
        ("intel", {"device_list_strategy": []}, "device_list_strategy"),
        ("intel", {"device_list_strategy": ["envvar"]}, "device_list_strategy"),
        ("intel", {"by-path": True}, "by-path"),
        ("intel_xe", {"instances": [{"name": "xe-4gb", "memory": "much"}]}, r"instances\[0\]"),
        (
            "intel_xe",
            {"instances": [{"name": "xe 4", "memory": "4Gi"}]},
            "after the slash",
        ),
        ("intel_xe", {"instances": [{"name": "gpu", "memory": "4Gi"}]}, "that no other"),
        (
            "intel_xe",
            {"instances": [{"name": "a-vfio", "memory": "4Gi"}]},
            "that no other",
        ),
        (
            "intel_xe",
            {"instances": [{"name": "a", "memory": "4Gi"}, {"name": "b", "memory": "4.2Gi"}]},
            "4gb",
        ),
    ],
    ids=[
        "naming",
        "fewer than no monitors",
        "no strategy",
        "another vendor's strategy",
        "unknown key",
        "no size",
        "no resource name",
        "a name of ours",
        "a suffix of ours",
        "two of one size",
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    section: str, value: dict[str, object], named: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(value, SECTIONS[section])
