"""The roles of `security.access_control` as RBAC objects; pure.

RBAC has no rule about what a pod asks for. So asking is a right of its own, the verb `use` of a
resource that the API server does not serve: group and name are those of the extended resource
(`nvidia.com`, `gpu`), or it is a DeviceClass. The admission policies ask for that right.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.access.names import (
    BY_CLASS,
    CLASSES,
    CLASSES_GROUP,
    DOMAINS,
    split,
)
from deviceplugin.documents.access import Role

_VERBS: Mapping[str, Sequence[str]] = {
    "create": ("create",),
    "read": ("get", "list", "watch"),
    "update": ("update", "patch"),
    "delete": ("delete", "deletecollection"),
    "use": ("create",),
}
# What a GPU is asked for with: a pod, or a claim that a pod names.
_RULES = (("", ("pods",)), ("resource.k8s.io", ("resourceclaims", "resourceclaimtemplates")))
_RBAC = "rbac.authorization.k8s.io"
_KINDS = {"user": "User", "group": "Group", "serviceaccount": "ServiceAccount"}
Manifest = dict[str, Any]


def cluster_roles(roles: Sequence[Role]) -> list[Manifest]:
    """A ClusterRole for each; whom it is bound to says `bindings`."""
    return [_role(role) for role in roles]


def bindings(roles: Sequence[Role]) -> list[Manifest]:
    """Of each role that has subjects: in each of its namespaces, else in all of them at once."""
    return [one for role in roles if role.subjects for one in _bindings(role)]


def asks(role: Role) -> bool:
    """Whether a role may ask for GPUs: `create` makes pods and claims, whatever they ask for."""
    return bool({"use", "create"} & set(role.permissions))


def _role(role: Role) -> Manifest:
    verbs = list(dict.fromkeys(verb for word in role.permissions for verb in _VERBS[word]))
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": verbs}
        for group, resources in _RULES
        if verbs
    ]
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role.name},
        "rules": rules + (list(_use(role.resources)) if asks(role) else []),
    }


def _use(resources: Sequence[str]) -> Iterator[Manifest]:
    """The verb `use` for these names, without names for every GPU."""
    if not resources:
        yield {"apiGroups": [*DOMAINS, BY_CLASS], "resources": ["*"], "verbs": ["use"]}
        yield {"apiGroups": [CLASSES_GROUP], "resources": [CLASSES], "verbs": ["use"]}
        return
    groups: dict[str, list[str]] = {}
    for name in resources:
        if "/" in name:
            group, resource = split(name)
            groups.setdefault(group, []).append(resource)
    for group, names in groups.items():
        yield {"apiGroups": [group], "resources": names, "verbs": ["use"]}
    if classes := [name for name in resources if "/" not in name]:
        rule = {"apiGroups": [CLASSES_GROUP], "resources": [CLASSES], "verbs": ["use"]}
        yield {**rule, "resourceNames": classes}
        yield {"apiGroups": [BY_CLASS], "resources": classes, "verbs": ["use"]}


def _bindings(role: Role) -> Iterator[Manifest]:
    document = {
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role.name},
        "subjects": [_subject(text) for text in role.subjects],
    }
    for namespace in role.namespaces or (None,):
        place = {"namespace": namespace} if namespace else {}
        yield {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": {"name": role.name, **place},
            **document,
        }


def _subject(text: str) -> Manifest:
    kind, _, name = text.partition(":")
    if kind == "serviceaccount":
        namespace, _, account = name.partition("/")
        return {"kind": _KINDS[kind], "name": account, "namespace": namespace}
    return {"apiGroup": _RBAC, "kind": _KINDS[kind], "name": name}
