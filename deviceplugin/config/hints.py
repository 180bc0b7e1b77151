"""Keys that people bring from elsewhere, and files that are another program's; pure."""

from collections.abc import Mapping

_METRICS = "metrics are served at metrics_address under /metrics; alerts are Prometheus rules"
# Topics of users' documents that are no sections here.
_TOPICS: Mapping[str, str] = {
    "alerting": _METRICS,
    "profiles": "profiles of the Kubernetes scheduler are in its own configuration",
}
_REPLICAS = "say it as a rule: `rules: [{match: {vendor: VENDOR}, offers: [{replicas: N}]}]`"
# Flags and keys of the vendors' own plugins, and what does the same here.
_PLUGINS: Mapping[str, str] = {
    "shared-dev-num": _REPLICAS,
    "pulse": "devices are checked all the time, there is no interval to set",
    "resource_naming_strategy": "it is amd.resource_naming here",
    "driver_type": "the driver is found by itself",
    "enable-monitoring": "it is intel.monitoring here, the number of containers that may monitor",
    "allocation-policy": "it is scheduling.policy here",
    "bypath": "it is intel.by_path here",
    "mig-strategy": "it is nvidia.mig_strategy here",
    "device-list-strategy": "it is nvidia.device_list_strategy here, a list",
    "device-id-strategy": "it is nvidia.device_id_strategy here",
    "pass-device-specs": "it is nvidia.pass_device_specs here",
    "nvidia-driver-root": "it is nvidia.driver_root here",
    "fail-on-init-error": "a missing driver never ends this daemon",
    "config-file": "it is --config here",
    "expose-pods": "it is metrics.pods in a file",
    "migStrategy": "it is nvidia.mig_strategy here, or flags.migStrategy with `version: v1`",
    "timeSlicing": "it stands under sharing, in a file with `version: v1`",
    "flags": "a file of NVIDIA's plugin begins with `version: v1`",
}
_MORE = {key.replace("-", "_"): hint for key, hint in _PLUGINS.items()}
_INSIDE = "give the text that stands below config.map and the configuration's name"
_HELM = frozenset(
    {"affinity", "compatWithCPUManager", "daemonsets", "dcgmExporter", "devicePlugin", "dp"}
    | {"fullnameOverride", "gfd", "image", "imagePullSecrets", "labeller", "migManager"}
    | {"nameOverride", "namespaceOverride", "nfd", "nodeSelector", "operator", "podAnnotations"}
    | {"podSecurityContext", "runtimeClassName", "securityContext", "serviceAccount", "toolkit"}
    | {"tolerations", "updateStrategy"}
)


def hint_of(key: str) -> str | None:
    """Why a key is none here and what is there instead; None for a key that nobody knows."""
    if key in _HELM:
        return f"it is a value of a Helm chart; {_INSIDE}"
    return _TOPICS.get(key) or _PLUGINS.get(key) or _MORE.get(key)


def foreign_file(content: Mapping[str, object]) -> str | None:
    """What a file is, where it is not a configuration but a chart's values."""
    config = content.get("config")
    is_map = isinstance(config, Mapping) and bool({"map", "default", "name"} & set(config))
    # One such name may be the section of a third party's vendor.
    if is_map or len(_HELM & set(content)) > 1:
        return f"the configuration itself: this has the values of a Helm chart; {_INSIDE}"
    return None
