"""What a person reads of a configuration that cannot be used: all of it, and what to write."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deviceplugin.config.load import load
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.errors import ConfigError

LIBRARY = ("expected array", "expected str", "expected bool", "expected int", "expected object")


def refusals(tmp_path: Path, text: str) -> list[str]:
    """One line for each thing that is wrong."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load({"config": str(path)})
    assert "\n" not in str(refused.value)
    return [str(error) for error in refused.value.errors]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "nvidia: {device_list_strategy: envvar}",
            "nvidia.device_list_strategy: 'envvar' is not valid, expected a list: write [envvar]",
        ),
        (
            "nvidia: {device_list_strategy: 'envvar,cdi-cri'}",
            (
                "nvidia.device_list_strategy: 'envvar,cdi-cri' is not valid,"
                " expected a list: write [envvar, cdi-cri]"
            ),
        ),
        (
            "amd: {device_list_strategy: cdi}",
            (
                "amd.device_list_strategy: 'cdi' is not valid,"
                " expected a list of cdi-annotations, cdi-cri, device-specs"
            ),
        ),
        (
            "rules: [{offers: [{replicas: -1}]}]",
            (
                "rules[0].offers[0].replicas: -1 is not valid,"
                " expected a whole number from 2 to 100000"
            ),
        ),
        (
            "rules: [{offers: [{replicas: 100000000}]}]",
            (
                "rules[0].offers[0].replicas: 100000000 is not valid,"
                " expected a whole number from 2 to 100000"
            ),
        ),
        (
            "rules: [{offers: [{replicas: 0}]}]",
            "rules[0].offers[0].replicas: 0 is not valid, expected a whole number from 2 to 100000",
        ),
        (
            "rules: [{offers: [{replicas: many}]}]",
            "rules[0].offers[0].replicas: 'many' is not valid, expected a whole number",
        ),
        (
            "rules: [{offers: [{replicas: 2, name: bad name}]}]",
            (
                "rules[0].offers[0].name: 'bad name' is not valid, expected a resource name such as"
                " nvidia.com/gpu.shared: it has no domain before a slash"
            ),
        ),
        (
            "rules: [{offers: [{replicas: 2, max_per_container: 0}]}]",
            (
                "rules[0].offers[0].max_per_container: 0 is not valid,"
                " expected a whole number from 1, or unlimited"
            ),
        ),
        (
            "rules: [{count: 0, offers: [whole]}]",
            "rules[0].count: 0 is not valid, expected a whole number from 1",
        ),
        (
            "rules: [{offers: []}]",
            (
                "rules[0].offers: [] is not valid,"
                " expected at least one form; to hide devices write [exclude]"
            ),
        ),
        (
            "rules: [{offers: [{memory: {unit: 1.5MiB}}]}]",
            (
                "rules[0].offers[0].memory.unit: '1.5MiB' is not valid,"
                " expected a whole number of MiB such as 512MiB"
            ),
        ),
        (
            "rules: [{match: {memory: {min: lots}}, offers: [whole]}]",
            (
                "rules[0].match.memory.min: 'lots' is not valid,"
                " expected a size above zero such as 5GiB"
            ),
        ),
        (
            "mig: {instances: [{name: mig-1g.5gb, memory: 5}]}",
            "mig.instances[0].memory: 5 is not valid, expected a size such as 5GiB",
        ),
        (
            "gpu_nodes: [{name: a, memory_per_gpu: 32}]",
            "gpu_nodes[0].memory_per_gpu: 32 is not valid, expected a size such as 5GiB",
        ),
        (
            "mig: {version: 2.0}",
            'mig.version: 2.0 is not valid, expected text: write it in quotes, "2.0"',
        ),
        (
            "node_name: 7\nmxgpu: {version: true}",
            'mxgpu.version: True is not valid, expected text: write it in quotes, "true"',
        ),
        (
            'mig: {enabled: "yes"}',
            "mig.enabled: 'yes' is not valid, expected true or false, without quotes",
        ),
        (
            "mig: {instances: [{name: mig-1g.5gb, memory: 5Gi}, {name: mig-1g.5gb, memory: 5Gi}]}",
            (
                "mig.instances: [...] is not valid,"
                " expected each profile once; mig-1g.5gb is listed twice"
            ),
        ),
        (
            "mxgpu: {instances: [{name: a, memory: 4Gi}, {name: b, memory: 4Gi}]}",
            (
                "mxgpu.instances: [...] is not valid,"
                " expected each size and each name once; 4gb is listed twice"
            ),
        ),
        (
            "intel_xe: {instances: [{name: xe-4gb, memory: 4Gi}, {name: xe-4gb, memory: 4Gi}]}",
            (
                "intel_xe.instances: [...] is not valid,"
                " expected each size of memory once; 4gb is listed twice"
            ),
        ),
        (
            "vgpu: {profiles: [{name: a, memory: 4Gi}, {name: b, memory: 4Gi}]}",
            (
                "vgpu.profiles: [...] is not valid,"
                " expected each size of memory once; 4gb is listed twice"
            ),
        ),
        (
            "health: {hold_s: -1}",
            "health.hold_s: -1 is not valid, expected a number from 0 to 2592000",
        ),
        (
            "health: {call_deadline_s: 0}",
            "health.call_deadline_s: 0 is not valid, expected a number above 0, at most 60",
        ),
        (
            "health: {hold_s: 9, hold_max_s: 3}",
            "health.hold_max_s: 3 is not valid, expected at least hold_s, which is 9",
        ),
        (
            "health: {disable: [a b]}",
            (
                "health.disable: ['a b'] is not valid,"
                " expected faults such as nvidia.xid/79, not 'a b'"
            ),
        ),
        (
            "intel: {monitoring: '5'}",
            (
                "intel.monitoring: '5' is not valid,"
                " expected a whole number from 0 to 1024, without quotes"
            ),
        ),
        (
            "isolation: Hardware",
            (
                "isolation: 'Hardware' is not valid,"
                " expected one of hardware, memory, none, process: did you mean 'hardware'?"
            ),
        ),
        (
            "sharing: {mps: {root: ../mps}}",
            "sharing.mps.root: '../mps' is not valid, expected an absolute path without `..`",
        ),
    ],
)
def test_a_value_that_cannot_be_used_has_a_line_that_says_what_to_write(
    tmp_path: Path, text: str, line: str
) -> None:
    lines = refusals(tmp_path, text)
    assert line in lines
    assert not [found for found in lines for word in LIBRARY if found.endswith(word)]


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    lines = refusals(
        tmp_path,
        """
node_name: UPPER
log_level: loud
migg: {}
nvidia: {mig_strategy: mixd, foo: 1}
mig: {instances: [{memory: 5GiB}, {name: mig-1g.5gb, memory: 5GiB, tensr: 3}]}
rules: [{offers: [{replicas: 1}]}, {offers: [{replicas: 4, nam: x}]}]
""",
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "node_name",
        "log_level",
        "migg",
        "mig.instances[0].name",
        "mig.instances[1].tensr",
        "nvidia.foo",
        "nvidia.mig_strategy",
        "rules[0].offers[0].replicas",
        "rules[1].offers[0].nam",
    ]


def test_of_a_thousand_mistakes_the_first_are_said(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in (
        "\n".join(f"k{number}: 1" for number in range(1000)),
        f"rules: [{', '.join(['{replicas: 1}'] * 1000)}]",
        f"nvidia: {{{', '.join(f'k{number}: 1' for number in range(1000))}}}",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as refused:
            load({"config": str(path)})
        assert (len(refused.value.errors), refused.value.more) == (20, True)
        assert len(str(refused.value)) <= 1500


def test_a_whole_section_is_not_printed_before_the_point(tmp_path: Path) -> None:
    (line,) = refusals(tmp_path, "pulse: {training: {gpu_memory: 32GiB}, inference: {number: 8}}")
    assert line.startswith("pulse: {...} is not valid: there is no such key: ")


@pytest.mark.parametrize(
    "key",
    [
        *("profiles", "shared-dev-num", "pulse", "resource_naming_strategy"),
    ],
)
def test_a_topic_that_is_no_section_is_told_why_and_not_guessed_at(
    tmp_path: Path, key: str
) -> None:
    (line,) = refusals(tmp_path, f"{key}: {{enabled: true}}")
    assert line.startswith(f"{key}: {{'enabled': True}} is not valid: there is no such key: ")
    assert "did you mean" not in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "instances: []",
            (
                "instances: [] is not valid, expected a known key:"
                " 'instances' belongs under intel_xe or mig or mxgpu"
            ),
        ),
        (
            "mig_strategyy: none",
            "mig_strategyy: 'none' is not valid, expected a known key: known here are",
        ),
        (
            "driver_root: /x",
            (
                "driver_root: '/x' is not valid, expected a known key:"
                " 'driver_root' belongs under nvidia"
            ),
        ),
        (
            "nvidia: {memory_pool: true}",
            (
                "nvidia.memory_pool: True is not valid, expected a known key:"
                " 'memory_pool' belongs under cuda.runtime or oneapi.runtime or rocm.runtime"
            ),
        ),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_belongs(
    tmp_path: Path, text: str, line: str
) -> None:
    assert refusals(tmp_path, text)[0].startswith(line)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("vgpu: {features: [better_isolation]}", ["vgpu.features"]),
        ("rocm: {version: '6.0', features: [x]}", ["rocm.features"]),
        ("rocm: {libraries: [hip]}", ["rocm.libraries"]),
        ("rocm: {runtime: {cooperative_groups: true}}", ["rocm.runtime.cooperative_groups"]),
        ("mig: {version: '2.0'}", ["mig.version"]),
        ("mig: {scheduling: {isolation: hardware}}", []),
        (
            (
                "mig: {instances: [{name: mig-1g.5gb, memory: 5GiB, tensor_cores: 1},"
                " {name: mig-2g.10gb, memory: 10GiB, tensor_cores: 2}]}"
            ),
            ["mig.instances[].tensor_cores"],
        ),
        (
            "vgpu: {profiles: [{name: a, memory: 8GiB, compute_units: 1}]}",
            ["vgpu.profiles[].compute_units"],
        ),
        ("intel_xe: {scheduling: {policy: packed}}", []),
        ("isolation: hardware", []),
    ],
)
def test_a_key_without_effect_is_said_to_have_none(
    tmp_path: Path, text: str, notes: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config, _ = load({"config": str(path)})
    assert [note.partition(":")[0] for note in config.notes] == notes


def idle_keys(name: str, schema: Any) -> Iterator[str]:
    """The keys of a section that say of themselves that they have no effect."""
    for field in schema.fields:
        path = f"{name}.{field.encode_name}"
        if field.encode_name in getattr(schema.cls, "WITHOUT_EFFECT", {}):
            yield path
        inner = field.type
        if isinstance(inner, msgspec.inspect.UnionType):
            inner = next(
                kind for kind in inner.types if not isinstance(kind, msgspec.inspect.NoneType)
            )
        if isinstance(inner, msgspec.inspect.StructType):
            yield from idle_keys(path, inner)
        item = getattr(inner, "item_type", None)
        if isinstance(item, msgspec.inspect.StructType):
            yield from idle_keys(f"{path}[]", item)


def test_the_keys_without_effect_are_those_that_the_document_calls_so() -> None:
    text = Path("docs/configuration.md").read_text()
    rows = re.findall(r"(?m)^\| `(\S+)` \|.*(?:no effect|nothing depends on it) \|$", text)
    sections = [pair for module in load_vendors(None) for pair in module.SECTIONS.items()]
    found = [
        key
        for name, schema in sections
        for key in idle_keys(name, msgspec.inspect.type_info(schema))
    ]
    assert sorted(found) == sorted(rows)
