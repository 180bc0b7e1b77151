"""ValidatingAdmissionPolicies that hold who asks for GPUs; pure.

An authorizer's check costs more than a third of what one expression may (350,000 of 1,000,000,
`celconfig` of the API server), and comparing lists has no short form. So a validation is about one
place in the list of the names that are asked for, with two checks at most: of who asks, and, where
a controller does, of the pod's service account, which is the only one that it acts for.
"""

from collections.abc import Sequence
from typing import Any

from deviceplugin.access.names import (
    CLASSES,
    CLASSES_GROUP,
    class_pattern,
    held_domains,
    held_pattern,
    others_pattern,
)

PLACES = 8  # kinds of GPUs in one pod or claim
_LOOKED_AT = 32  # entries of all containers together
PODS, CLAIMS = "deviceplugin-access", "deviceplugin-access-claims"
_WORKLOADS = (
    ("apps", ["deployments", "daemonsets", "statefulsets", "replicasets"]),
    ("batch", ["jobs", "cronjobs"]),
    ("", ["replicationcontrollers", "podtemplates"]),
)
# Controllers act under a service account, or all of them under one name.
_CONTROLLER = (
    "request.userInfo.username.startsWith('system:serviceaccount:')"
    " || request.userInfo.username == 'system:kube-controller-manager'"
)
_REMEDY = (
    "whoever administers GPUs grants it by a role of security.access_control: RBAC's verb 'use'"
)
Manifest = dict[str, Any]


def access_policies(resources: Sequence[str], *, warn: bool = False) -> list[Manifest]:
    """The policies with their bindings, for these names of roles; `warn` refuses nothing."""
    domains = held_domains(resources)
    classes = [name for name in resources if "/" not in name]
    policies = (_pods(domains), _claims(domains, classes))
    return [one for policy in policies for one in (policy, binding(policy, warn=warn))]


def binding(policy: Manifest, selector: Manifest | None = None, *, warn: bool) -> Manifest:
    """The binding of a policy, in the namespaces of `selector` alone."""
    name = policy["metadata"]["name"]
    spec: Manifest = {
        "policyName": name,
        "validationActions": ["Warn" if warn else "Deny", "Audit"],
    }
    if selector is not None:
        spec["matchResources"] = {"namespaceSelector": selector}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": spec,
    }


def policy(name: str, spec: Manifest) -> Manifest:
    """A policy that refuses where it cannot be judged."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail", **spec},
    }


# A kubelet shows the API server pods that it has from files: refusing one hides it, and no more.
NOT_MIRRORS = {
    "name": "no-mirror-pod",
    "expression": "!('system:nodes' in request.userInfo.groups)",
}
_NOT_KUBERNETES = {
    "name": "not-kubernetes-itself",
    "expression": (
        "!('system:serviceaccounts:kube-system' in request.userInfo.groups) &&"
        " !(request.userInfo.username in"
        " ['system:kube-controller-manager', 'system:kube-scheduler'])"
    ),
}
# The pod of a pod, or of what makes pods.
POD_SPEC = (
    "request.kind.kind == 'Pod' ? object.spec"
    " : request.kind.kind == 'CronJob' ? object.spec.jobTemplate.spec.template.spec"
    " : request.kind.kind == 'PodTemplate' ? object.template.spec"
    " : object.spec.template.spec"
)
CONTAINERS = "variables.pod.?initContainers.orValue([]) + variables.pod.?containers.orValue([])"


def _names(domains: Sequence[str]) -> str:
    held, others = _text(held_pattern(domains)), _text(others_pattern())
    return (
        "variables.containers.map(c, c.?resources.?limits.orValue({})"
        f".filter(name, name.matches({held}) && !name.matches({others})).join(','))"
        ".filter(text, text != '').join(',').split(',').filter(name, name != '')"
    )


def _pods(domains: Sequence[str]) -> Manifest:
    rules = [_rule("", ["pods"], ["CREATE"])]
    rules += [_rule(group, kinds, ["CREATE", "UPDATE"]) for group, kinds in _WORKLOADS]
    variables = {
        "pod": POD_SPEC,
        "containers": CONTAINERS,
        "names": _names(domains),
        "asked": _distinct(),
        "account": "variables.pod.?serviceAccountName.orValue('default')",
        "controller": _CONTROLLER,
        "who": "variables.controller"
        " ? 'service account ' + request.namespace + '/' + variables.account"
        " : 'user ' + request.userInfo.username",
    }
    validations = [_few("pod", "kinds of GPUs"), *(_may_use(place) for place in range(PLACES))]
    return policy(
        PODS,
        {
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": [NOT_MIRRORS],
            "variables": _variables(variables),
            "validations": validations,
        },
    )


def _may_use(place: int) -> Manifest:
    """Of a workload its own user is asked; one that a controller makes is judged by its pods."""
    name = f"variables.asked[{place}]"
    check = (
        f".group({name}.split('/')[0]).resource({name}.split('/')[1])"
        ".namespace(request.namespace).check('use').allowed()"
    )
    return {
        "expression": (
            f"size(variables.asked) <= {place}"
            f" || (variables.controller && request.kind.kind != 'Pod')"
            f" || authorizer{check}"
            " || (variables.controller"
            f" && authorizer.serviceAccount(request.namespace, variables.account){check})"
        ),
        "messageExpression": (
            f"variables.who + ' may not ask for ' + {name} + ' in namespace ' + request.namespace"
            f" + {_text(f'; {_REMEDY} of ')} + {name}"
        ),
        "reason": "Forbidden",
    }


def _claims(domains: Sequence[str], classes: Sequence[str]) -> Manifest:
    """Claims and their templates. Those that Kubernetes' own controllers make of templates and of
    pods were asked for there."""
    pattern = class_pattern(domains, classes)
    one = "r.?exactly.?deviceClassName.orValue(r.?deviceClassName.orValue(''))"
    either = "r.?firstAvailable.orValue([]).map(s, s.?deviceClassName.orValue('')).join(',')"
    variables = {
        "spec": "request.kind.kind == 'ResourceClaim' ? object.spec : object.spec.spec",
        "names": (
            "variables.spec.?devices.?requests.orValue([])"
            f".map(r, {one} + ',' + {either}).join(',').split(',')"
            f".filter(name, name.matches({_text(pattern)}))"
        ),
        "asked": _distinct(),
    }
    validations = [_few("claim", "classes"), *(_may_use_class(place) for place in range(PLACES))]
    kinds = ["resourceclaims", "resourceclaimtemplates"]
    return policy(
        CLAIMS,
        {
            "matchConstraints": {"resourceRules": [_rule(CLASSES_GROUP, kinds, ["CREATE"])]},
            "matchConditions": [_NOT_KUBERNETES],
            "variables": _variables(variables),
            "validations": validations,
        },
    )


def _may_use_class(place: int) -> Manifest:
    name = f"variables.asked[{place}]"
    return {
        "expression": (
            f"size(variables.asked) <= {place} || authorizer.group('{CLASSES_GROUP}')"
            f".resource('{CLASSES}').namespace(request.namespace).name({name})"
            ".check('use').allowed()"
        ),
        "messageExpression": (
            f"'user ' + request.userInfo.username + ' may not ask for devices of class ' + {name}"
            f" + ' in namespace ' + request.namespace + {_text(f'; {_REMEDY} of ')} + {name}"
        ),
        "reason": "Forbidden",
    }


def _few(what: str, kind: str) -> Manifest:
    """More than are looked at are refused."""
    return {
        "expression": (
            f"size(variables.asked) <= {PLACES} && size(variables.names) <= {_LOOKED_AT}"
        ),
        "message": f"a {what} asks for at most {PLACES} {kind}, {_LOOKED_AT} times in all",
    }


def _distinct() -> str:
    """Each of `names` once."""
    places = ", ".join(map(str, range(_LOOKED_AT)))
    return (
        f"[{places}].filter(i, i < size(variables.names)"
        " && variables.names.indexOf(variables.names[i]) == i).map(i, variables.names[i])"
    )


def _rule(group: str, resources: Sequence[str], operations: Sequence[str]) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": list(operations),
        "resources": list(resources),
    }


def _variables(variables: dict[str, str]) -> list[Manifest]:
    return [{"name": name, "expression": text} for name, text in variables.items()]


def _text(text: str) -> str:
    """As a string of CEL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
