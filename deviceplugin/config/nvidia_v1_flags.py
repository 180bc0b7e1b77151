"""The flags of NVIDIA's own device plugin (`version: v1`, section `flags`) in our terms; pure."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from deviceplugin.schema import Section

Strategy = Literal["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]
SPREAD_OR_PACKED = {"distributed": "spread", "packed": "packed"}


class PluginFlags(Section, frozen=True, rename="camel"):
    """`flags.plugin`."""

    pass_device_specs: bool = False
    device_list_strategy: str | tuple[Strategy, ...] = ("envvar",)
    device_id_strategy: Literal["uuid", "index"] = msgspec.field(
        default="uuid", name="deviceIDStrategy"
    )
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    nvidia_ctk_path: str | None = msgspec.field(default=None, name="nvidiaCTKPath")
    container_driver_root: str | None = None
    shared_devices_allocation_policy: Literal["distributed", "packed"] = "distributed"


class GfdFlags(Section, frozen=True, rename="camel"):
    """`flags.gfd`."""

    oneshot: bool | None = None
    no_timestamp: bool | None = None
    sleep_interval: str | int | None = None
    output_file: str | None = None
    machine_type_file: str | None = None


class Flags(Section, frozen=True, rename="camel"):
    """`flags`; the default of `migStrategy` is that plugin's, not ours."""

    mig_strategy: Literal["none", "single", "mixed"] = "none"
    fail_on_init_error: bool | None = None
    mps_root: str | None = None
    nvidia_driver_root: str = "/"
    nvidia_dev_root: str | None = None
    gdrcopy_enabled: bool = False
    gds_enabled: bool = False
    mofed_enabled: bool = False
    use_node_feature_api: bool | None = msgspec.field(default=None, name="useNodeFeatureAPI")
    device_discovery_strategy: Literal["auto", "nvml", "tegra"] = "auto"
    plugin: PluginFlags = msgspec.field(default_factory=PluginFlags)
    gfd: GfdFlags | None = None


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The flags as our settings: section `nvidia`, the policy of replicas, the root of MPS."""

    nvidia: dict[str, Any]
    policy: str
    mps_root: str | None


def plugin_settings(flags: Flags) -> PluginSettings:
    """Our settings for the section `flags`."""
    plugin = flags.plugin
    listed = plugin.device_list_strategy
    strategies = listed.split(",") if isinstance(listed, str) else list(listed)
    nvidia = {
        "mig_strategy": flags.mig_strategy,
        "device_list_strategy": [strategy.strip() for strategy in strategies],
        "device_id_strategy": plugin.device_id_strategy,
        "pass_device_specs": plugin.pass_device_specs,
        "driver_root": flags.nvidia_driver_root,
        "dev_root": flags.nvidia_dev_root,
        "cdi_annotation_prefix": plugin.cdi_annotation_prefix,
        "cdi_hook_path": plugin.nvidia_ctk_path,
        "device_discovery_strategy": flags.device_discovery_strategy,
        "gdrcopy": flags.gdrcopy_enabled,
        "gds": flags.gds_enabled,
        "mofed": flags.mofed_enabled,
    }
    return PluginSettings(
        nvidia=nvidia,
        policy=SPREAD_OR_PACKED[plugin.shared_devices_allocation_policy],
        mps_root=flags.mps_root,
    )


def unserved(flags: Flags) -> list[str]:
    """Which flags have no effect here, one line each."""
    return list(_unserved(flags))


def _unserved(flags: Flags) -> Iterator[str]:
    if flags.fail_on_init_error is not None:
        yield "flags.failOnInitError: this daemon waits for a missing driver, and never ends for it"
    if flags.use_node_feature_api is not None:
        yield "flags.useNodeFeatureAPI: this daemon does not write labels through the API"
    if flags.plugin.container_driver_root is not None:
        yield "flags.plugin.containerDriverRoot: use host_root instead"
    if flags.gfd is not None:
        yield "flags.gfd: belongs to gpu-feature-discovery, not to the device plugin"
