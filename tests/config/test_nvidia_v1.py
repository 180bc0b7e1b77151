"""Configuration files of NVIDIA's own plugin load as they are and give what they promise."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from msgspec import Struct, to_builtins

from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.errors import AllocationError, ConfigError
from deviceplugin.host import Host
from deviceplugin.model import Inventory, Isolation, ResourceName
from deviceplugin.resources.allocation import check_request
from deviceplugin.resources.methods import absent_programs
from deviceplugin.resources.plan import sharing_of
from deviceplugin.resources.section import SharingSection
from deviceplugin.vendors.nvidia.settings import NvidiaSection, VgpuSection
from tests.resources.builders import gpu, instance, inventory

Loaded = Callable[[str], Config]
S = TypeVar("S", bound=Struct)
EIGHT = inventory(*(gpu(i) for i in range(8)))
PARENT = gpu(2, resource=None)
MIXED = inventory(
    gpu(0),
    gpu(1, product="Tesla T4"),
    PARENT,
    instance(PARENT, 0),
    instance(PARENT, 1),
    instance(PARENT, 2, "2g.20gb"),
)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    program = tmp_path / "host/usr/bin/nvidia-cuda-mps-control"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def load_text(text: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        config, _ = load({"config": str(path), "host_root": str(tmp_path / "host")})
        return config

    return load_text


def section(config: Config, kind: type[S]) -> S:
    """The section of this type."""
    (found,) = (one for one in config.sections.values() if isinstance(one, kind))
    return found


def sizes(config: Config, devices: Inventory) -> dict[str, int]:
    plan = sharing_of(config.sections).plan(devices)
    assert plan.problems == ()
    return {name: len(resource.devices) for name, resource in plan.resources.items()}


def test_the_defaults_are_those_of_that_plugin(loaded: Loaded) -> None:
    config = loaded("version: v1")
    nvidia = section(config, NvidiaSection)
    assert nvidia.mig_strategy == "none"
    assert nvidia.device_list_strategy == ("envvar",)
    assert section(config, VgpuSection).enabled is False
    assert sizes(config, EIGHT) == {"nvidia.com/gpu": 8}


def test_every_flag_of_the_schema_is_taken_over_or_named_as_without_effect(loaded: Loaded) -> None:
    config = loaded(
        """
version: v1
flags:
  migStrategy: single
  failOnInitError: false
  mpsRoot: /run/nvidia/mps/v1
  nvidiaDriverRoot: /run/nvidia/driver
  nvidiaDevRoot: /run/nvidia/driver
  gdrcopyEnabled: true
  gdsEnabled: true
  mofedEnabled: true
  useNodeFeatureAPI: false
  deviceDiscoveryStrategy: nvml
  plugin:
    passDeviceSpecs: true
    deviceListStrategy: [envvar, cdi-cri]
    deviceIDStrategy: index
    cdiAnnotationPrefix: x.io/
    nvidiaCTKPath: /usr/bin/nvidia-ctk
    containerDriverRoot: /driver-root
    sharedDevicesAllocationPolicy: packed
  gfd:
    {oneshot: false, noTimestamp: true, sleepInterval: 60s, outputFile: /x, machineTypeFile: /y}
resources: {gpus: [], mig: []}
sharing: {}
imex: {channelIDs: [0], required: false}
"""
    )
    nvidia = section(config, NvidiaSection)
    assert (nvidia.mig_strategy, nvidia.driver_root, nvidia.dev_root) == (
        "single",
        "/run/nvidia/driver",
        "/run/nvidia/driver",
    )
    assert nvidia.device_list_strategy == ("envvar", "cdi-cri")
    assert (nvidia.device_id_strategy, nvidia.pass_device_specs) == ("index", True)
    assert (nvidia.cdi_annotation_prefix, nvidia.cdi_hook_path) == ("x.io/", "/usr/bin/nvidia-ctk")
    assert to_builtins(section(config, SharingSection))["mps"]["root"] == "/run/nvidia/mps/v1"
    told = {note.partition(":")[0] for note in config.notes}
    assert told == {
        "flags.failOnInitError",
        "flags.useNodeFeatureAPI",
        "flags.plugin.containerDriverRoot",
        "flags.gfd",
    }


TEN = "resources: [{name: nvidia.com/gpu, replicas: 10}]"


@pytest.mark.parametrize(
    ("sharing", "resources"),
    [
        (f"timeSlicing: {{{TEN}}}", {"nvidia.com/gpu": 80}),
        (f"timeSlicing: {{renameByDefault: true, {TEN}}}", {"nvidia.com/gpu.shared": 80}),
        (f"mps: {{{TEN}}}", {"nvidia.com/gpu": 80}),
        (f"mps: {{renameByDefault: true, {TEN}}}", {"nvidia.com/gpu.shared": 80}),
        (
            "timeSlicing: {resources: [{name: gpu, replicas: 2, rename: shared-gpu}]}",
            {"nvidia.com/shared-gpu": 16},
        ),
        (
            "timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2, devices: 3}]}",
            {"nvidia.com/gpu": 6 + 5},
        ),
        (
            (
                "timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu,"
                f" replicas: 4, devices: [0, '{gpu(7).id}']}}]}}"
            ),
            {"nvidia.com/gpu": 6, "nvidia.com/gpu.shared": 8},
        ),
        (
            "timeSlicing: {resources: [{name: nvidia.com/mig-9g.90gb, replicas: 2}]}",
            {"nvidia.com/gpu": 8},
        ),
    ],
    ids=["time-slicing", "renamed", "mps", "mps-renamed", "rename", "count", "list", "no-device"],
)
def test_sharing_multiplies_the_gpus(
    loaded: Loaded, sharing: str, resources: dict[str, int]
) -> None:
    assert sizes(loaded(f"version: v1\nsharing: {{{sharing}}}"), EIGHT) == resources


def test_a_mig_profile_is_shared_on_its_own(loaded: Loaded) -> None:
    config = loaded(
        """
version: v1
flags: {migStrategy: mixed}
sharing:
  timeSlicing:
    resources:
    - {name: nvidia.com/gpu, replicas: 4}
    - {name: nvidia.com/mig-1g.10gb, replicas: 3, devices: ["2:1"]}
"""
    )
    assert sizes(config, MIXED) == {
        "nvidia.com/gpu": 8,
        "nvidia.com/mig-1g.10gb": 4,
        "nvidia.com/mig-2g.20gb": 1,
    }


def test_resources_name_gpus_by_product_and_partitions_by_profile(loaded: Loaded) -> None:
    config = loaded(
        """
version: v1
flags: {migStrategy: mixed}
resources:
  gpus:
  - {pattern: "*A100*", name: nvidia.com/a100}
  - {pattern: "*", name: other}
  mig:
  - {pattern: "1g*", name: small}
sharing:
  timeSlicing:
    renameByDefault: true
    resources: [{name: other, replicas: 5}]
"""
    )
    assert sizes(config, MIXED) == {
        "nvidia.com/a100": 1,
        "nvidia.com/other.shared": 5,
        "nvidia.com/small": 2,
        "nvidia.com/mig-2g.20gb": 1,
    }


@pytest.mark.parametrize(
    ("sharing", "refused"),
    [
        (f"timeSlicing: {{{TEN}}}", False),
        (f"timeSlicing: {{failRequestsGreaterThanOne: true, {TEN}}}", True),
        (f"mps: {{{TEN}}}", True),
        (f"mps: {{failRequestsGreaterThanOne: false, {TEN}}}", False),
    ],
)
def test_a_request_for_two_replicas_is_refused_where_that_plugin_does(
    loaded: Loaded, sharing: str, refused: bool
) -> None:
    config = loaded(f"version: v1\nsharing: {{{sharing}}}")
    resource = sharing_of(config.sections).plan(EIGHT).resources[ResourceName("nvidia.com/gpu")]
    two = resource.devices[:2]
    if refused:
        with pytest.raises(AllocationError, match="maximum request size for shared resources is 1"):
            check_request(resource, two)
    else:
        check_request(resource, two)


def test_replicas_by_mps_isolate_nobody_and_mps_wins_over_time_slicing(loaded: Loaded) -> None:
    config = loaded(f"version: v1\nsharing: {{mps: {{{TEN}}}, timeSlicing: {{{TEN}}}}}")
    (resource,) = sharing_of(config.sections).plan(EIGHT).resources.values()
    assert resource.isolation is Isolation.NONE
    assert config.notes == ("sharing.timeSlicing: sharing.mps is there too and wins",)


def test_mps_on_mig_devices_is_refused(loaded: Loaded) -> None:
    config = loaded(
        "version: v1\nsharing: {mps: {resources: [{name: nvidia.com/mig-1g.10gb, replicas: 2}]}}"
    )
    (problem,) = sharing_of(config.sections).plan(MIXED).problems
    assert "not supported for MIG devices" in problem.reason


def test_mps_without_its_control_program_is_a_matter_of_the_node_and_not_of_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"version: v1\nsharing: {{mps: {{{TEN}}}}}")
    config, _ = load({"config": str(path), "host_root": str(tmp_path)})
    (reason,) = absent_programs(sharing_of(config.sections), Host(tmp_path), config.sections)
    assert "nvidia-cuda-mps-control" in reason


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("version: v2", "version"),
        ("version: v1\nflags: {migStrategyy: mixed}", "flags.migStrategyy"),
        ("version: v1\nflags: {plugin: {deviceIdStrategy: x}}", "flags.plugin.deviceIdStrategy"),
        ("version: v1\nflags: {migStrategy: both}", "flags.migStrategy"),
        ("version: v1\nflags: {plugin: {deviceListStrategy: env}}", "nvidia.device_list"),
        ("version: v1\nsharing: {timeSlicing: {}}", "sharing.timeSlicing"),
        ("version: v1\nsharing: {timeSlicing: {resources: []}}", "sharing.timeSlicing"),
        (
            "version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 1}]}}",
            "sharing.mps.resources[0]",
        ),
        (
            "version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 2, devices: [x]}]}}",
            "sharing.mps.resources[0]",
        ),
        (
            "version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 2, devices: 0}]}}",
            "sharing.mps.resources[0]",
        ),
        ("version: v1\nresources: {gpus: [{pattern: x}]}", "resources.gpus[0]"),
        ("version: v1\nresources: {gpus: [{pattern: x, name: A/b}]}", "resources.gpus[0]"),
        ("version: v1\nimex: {channelIDs: [1]}", "imex.channelIDs[0]"),
        ("version: v1\nreplicas: 3", "replicas"),
    ],
)
def test_a_mistake_is_told_with_its_key(loaded: Loaded, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(text)
    assert refused.value.key.startswith(key)


def test_our_own_keys_beside_such_a_file_stay(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text("version: v1\nflags: {migStrategy: single}")
    own = {
        "nvidia": {"mig_strategy": "mixed"},
        "rules": [{"match": {"index": 0}, "offers": ["exclude"]}],
    }
    (tmp_path / "2.yaml").write_text(yaml.safe_dump(own))
    config, _ = load({"config": str(tmp_path)})
    assert section(config, NvidiaSection).mig_strategy == "mixed"
    assert sizes(config, EIGHT) == {"nvidia.com/gpu": 7}
