"""A ValidatingAdmissionPolicy against pods that reach GPUs without asking for one; pure.

What an image sets by itself, and what `envFrom` brings, no admission sees: the container runtime
must not honour it (`accept-nvidia-visible-devices-envvar-when-unprivileged=false` of NVIDIA's).
"""

from collections.abc import Sequence
from typing import Any

from deviceplugin.access.policies import CONTAINERS, NOT_MIRRORS, binding, policy

NAME = "deviceplugin-bypass"
_REMEDY = "; ask for GPUs by resources.limits, or run it in a namespace of security.bypass.allowed"
# As the kernel reads a path: / itself, or something below /dev that may be a GPU.
_DEVICES = r"^(/\\.?)*/?(dev(/.*)?)?$"
_HARMLESS = r"^(/\\.?)*/dev/+(shm|log|mqueue|hugepages[^/]*|net|fuse|infiniband)(/.*)?$"
_VARIABLES = "['NVIDIA_VISIBLE_DEVICES', 'AMD_VISIBLE_DEVICES']"
_MOUNTS = r"^(/var)?/run/nvidia-container-devices(/.*)?$"
Manifest = dict[str, Any]


def bypass_policy(allowed: Sequence[str], *, warn: bool = False) -> list[Manifest]:
    """The policy and its binding: not in the namespaces of `allowed`. An entry about single pods
    exempts nothing here, as anybody may name a pod; nor does one with `*`."""
    exempt = [name for name in allowed if "/" not in name and "*" not in name]
    values = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt}
    selector: Manifest = {"matchExpressions": [values]} if exempt else {}
    spec: Manifest = {
        "matchConstraints": {
            "resourceRules": [
                _rule("CREATE", ["pods"]),
                _rule("UPDATE", ["pods/ephemeralcontainers"]),
            ]
        },
        "matchConditions": [NOT_MIRRORS],
        "variables": [
            {"name": "pod", "expression": "object.spec"},
            {
                "name": "containers",
                "expression": f"{CONTAINERS} + variables.pod.?ephemeralContainers.orValue([])",
            },
        ],
        "validations": [
            {"expression": expression, "message": message + _REMEDY, "reason": "Forbidden"}
            for expression, message in _RULES
        ],
    }
    made = policy(NAME, spec)
    return [made, binding(made, selector, warn=warn)]


_RULES = (
    (
        "variables.containers.all(c, !c.?securityContext.?privileged.orValue(false))",
        "a privileged container reaches every GPU of the node",
    ),
    (
        (
            "variables.pod.?volumes.orValue([]).all(v, !has(v.hostPath)"
            f" || !v.hostPath.path.matches('{_DEVICES}') || v.hostPath.path.matches('{_HARMLESS}'))"
        ),
        "a hostPath of / or /dev has GPUs that were not allocated",
    ),
    (
        (
            f"variables.containers.all(c, c.?env.orValue([]).all(e, !(e.name in {_VARIABLES})"
            " || (!has(e.valueFrom) && e.?value.orValue('') in ['', 'void', 'none'])))"
        ),
        "NVIDIA_VISIBLE_DEVICES and AMD_VISIBLE_DEVICES choose GPUs that were not allocated",
    ),
    (
        (
            "variables.containers.all(c, c.?volumeMounts.orValue([])"
            f".all(m, !m.mountPath.matches('{_MOUNTS}')))"
        ),
        "a mount below /var/run/nvidia-container-devices chooses GPUs that were not allocated",
    ),
    (
        "!object.metadata.?annotations.orValue({}).exists(k, k.startsWith('cdi.k8s.io/'))",
        "annotations cdi.k8s.io/ choose devices that were not allocated",
    ),
)


def _rule(operation: str, resources: Sequence[str]) -> Manifest:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": [operation],
        "resources": list(resources),
    }
