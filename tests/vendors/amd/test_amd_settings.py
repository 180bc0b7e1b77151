"""The sections `amd`, `mxgpu` and `rocm`: the users' documents, and what is refused."""

from pathlib import Path

import msgspec
import pytest
import yaml

from deviceplugin.host import Host
from deviceplugin.vendors import amd
from deviceplugin.vendors.amd.settings import Settings, parse_sections
from tests.vendors.amd.amd_nodes import sections

DOCUMENTS = """
mxgpu:
  version: "2.0"
  enabled: true
  instances:
    - {name: "mxgpu-4gb", memory: "4GiB", compute_units: 32, rocm_cores: 16}
    - {name: "mxgpu-8gb", memory: "8GiB", compute_units: 64, rocm_cores: 32}
    - {name: "mxgpu-16gb", memory: "16GiB", compute_units: 128, rocm_cores: 64}
  scheduling: {policy: "round_robin", isolation: "hardware"}
rocm:
  version: "6.0"
  features: ["enhanced_virtualization", "improved_memory_management"]
  libraries: ["rocBLAS 3.1", "rocFFT 1.1"]
  runtime: {memory_pool: true, unified_memory: true, cooperative_groups: true}
"""


def test_the_users_documents_are_taken_as_they_are() -> None:
    parsed = parse_sections(sections(**yaml.safe_load(DOCUMENTS)))
    assert [i.name for i in parsed.mxgpu.instances] == ["mxgpu-4gb", "mxgpu-8gb", "mxgpu-16gb"]
    assert parsed.mxgpu.instances[0].memory_bytes == 4 << 30
    assert parsed.rocm.runtime.unified_memory


def test_sections_that_are_not_given_have_their_defaults() -> None:
    assert parse_sections({}) == Settings()
    assert parse_sections({}).amd.resource_naming == "single"


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("amd", {"resource_naming": "both"}, r"\$\.resource_naming"),
        ("amd", {"resource_name": "single"}, "resource_name"),
        ("mxgpu", {"instances": [{"name": "a", "memory": "four"}]}, "memory: a size above zero"),
        (
            "mxgpu",
            {"instances": [{"name": "a/b", "memory": "4GiB"}]},
            "after the slash",
        ),
        ("mxgpu", {"instances": [{"name": "x" * 59, "memory": "4GiB"}]}, "63 characters"),
        (
            "mxgpu",
            {"instances": [{"name": "a", "memory": "4GiB"}, {"name": "a", "memory": "8GiB"}]},
            "a is listed twice",
        ),
        (
            "mxgpu",
            {"instances": [{"name": "a", "memory": "4GiB"}, {"name": "b", "memory": "4000MiB"}]},
            "4gb is listed twice",
        ),
        ("rocm", {"runtime": {"memory_pool": "yes"}}, r"\$\.runtime\.memory_pool"),
    ],
)
def test_a_bad_value_is_refused_and_named(
    section: str, value: dict[str, object], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        sections(**{section: value})


def test_a_section_of_another_schema_is_refused(tmp_path: Path) -> None:
    wrong = sections(rocm={})["rocm"]
    with pytest.raises(TypeError, match="is not a AmdSection"):
        amd.create(Host(tmp_path), {"amd": wrong})
