"""The roles of `security.access_control` as ClusterRoles; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_VERBS: Mapping[str, Sequence[str]] = {
    "create": ("create",),
    "read": ("get", "list", "watch"),
    "update": ("update", "patch"),
    "delete": ("delete", "deletecollection"),
    "use": ("create",),
}
# What a GPU is asked for with: a pod, or a claim that a pod names.
_RULES = (("", ("pods",)), ("resource.k8s.io", ("resourceclaims", "resourceclaimtemplates")))


def cluster_roles(roles: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """A manifest for each role of a name and its permissions; whom it is bound to is the
    cluster's to say."""
    return [_role(name, permissions) for name, permissions in roles]


def _role(name: str, permissions: Sequence[str]) -> dict[str, Any]:
    verbs = list(dict.fromkeys(verb for word in permissions for verb in _VERBS[word]))
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": verbs}
        for group, resources in _RULES
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules if verbs else [],
    }
