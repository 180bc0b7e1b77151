"""What manifests and other programs' files say about GPUs; pure."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deviceplugin.documents.told import Telling, applied, checked, elsewhere, refused, reported
from deviceplugin.documents.walk import Entry

DOMAINS = ("nvidia.com", "amd.com", "intel.com", "gpu.intel.com")
_USUAL = ("gpu", "gpu-memory", "vgpu", "mxgpu", "xe", "i915")
_OVERRIDING = frozenset(
    {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"}
    | {"ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}
)
_NOT_OURS = reported("not ours: it says nothing about GPUs")
_OWN = reported("the container's own: the daemon neither sets nor reads it")
_OVERRIDES = refused(
    "it overrides the GPUs that the container is given, which are known only when it starts: leave"
    " it out, the allocation sets what is needed"
)
_TAINT = elsewhere("the kubelet's --register-with-taints, or a NodeFeatureRule")
_EXPECTED = checked("compared with what the node has")
_LABELS: Mapping[str, Telling] = {
    "accelerator": _EXPECTED,
    "gpu.memory": _EXPECTED,
    "gpu.count": _EXPECTED,
    "gpu-type": _EXPECTED,
}
_MESH = elsewhere("a mesh over the daemon's HTTP pages; it has no part in who gets a GPU")
_SCHEDULER = elsewhere(
    "the cluster's scheduler, which has no plugins of these names: they are parts of the extender;"
    " `deviceplugin scheduler --config` takes their weights, `deviceplugin scheduler render` prints"
    " the file as kube-scheduler takes it"
)
_RUNTIMES = {
    "nvidia-container-runtime": elsewhere("the runtime's own file; NVIDIA's toolkit installs it"),
    "amd-container-runtime": elsewhere("the runtime's own file; AMD's toolkit installs it"),
    "intel-container-runtime": refused(
        "there is no such program: Intel GPUs need no runtime of their own, their device nodes are"
        " enough"
    ),
}
_RUNTIME_FILE = elsewhere("the runtime's own file, on the node")


def entries(kind: str, content: Mapping[str, Any]) -> Iterator[Entry]:
    """What is told of a document of this kind."""
    tell = _KINDS.get(kind)
    if tell is None:
        pods = list(_pod_specs(content))
        found = [entry for path, spec in pods for entry in _pod(path, spec)]
        yield from found or [Entry("kind", kind, _NOT_OURS)]
    else:
        yield from tell(content)


def _pod_specs(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The specification of a Pod, or that of a template in what makes pods."""
    spec, path = content.get("spec"), "spec"
    while isinstance(spec, Mapping):
        if isinstance(spec.get("containers"), list):
            yield path, spec
            return
        template = spec.get("template") or spec.get("jobTemplate")
        spec = template.get("spec") if isinstance(template, Mapping) else None
        path += ".template.spec"


def _pod(path: str, spec: Mapping[str, Any]) -> Iterator[Entry]:
    for number, container in enumerate(spec["containers"]):
        if isinstance(container, Mapping):
            yield from _container(f"{path}.containers[{number}]", container)
    for number, volume in enumerate(spec.get("volumes") or ()):
        host = volume.get("hostPath") if isinstance(volume, Mapping) else None
        if isinstance(host, Mapping):
            telling = reported(
                "not needed for a GPU: the allocation gives its device nodes, and a mount alone"
                " gives no right to open them"
            )
            yield Entry(f"{path}.volumes[{number}].hostPath", str(host.get("path")), telling)


def _container(path: str, container: Mapping[str, Any]) -> Iterator[Entry]:
    resources = container.get("resources")
    if isinstance(resources, Mapping):
        yield from _resources(f"{path}.resources", resources)
    for number, variable in enumerate(container.get("env") or ()):
        if isinstance(variable, Mapping):
            name = str(variable.get("name"))
            telling = _OVERRIDES if name in _OVERRIDING else _OWN
            yield Entry(f"{path}.env[{number}]", f"{name}={variable.get('value')}", telling)


def _resources(path: str, resources: Mapping[str, Any]) -> Iterator[Entry]:
    asked = {part: resources.get(part) or {} for part in ("limits", "requests")}
    for part, amounts in asked.items():
        if not isinstance(amounts, Mapping):
            continue
        for name, amount in amounts.items():
            if str(name).partition("/")[0] in DOMAINS:
                other = asked["requests"].get(name, amount)
                telling = _request(str(name), amount, equal=other == asked["limits"].get(name))
                yield Entry(f"{path}.{part}.{name}", str(amount), telling)


def _request(name: str, amount: object, *, equal: bool) -> Telling:
    domain, _, short = name.partition("/")
    near = difflib.get_close_matches(short, _USUAL, 1, 0.75)
    if near and short not in _USUAL and "." not in short and "_" not in short:
        meant = f"{domain}/{near[0]}"
        if not short.startswith(("mxgpu-", "xe-", "gpu-memory-")):
            return refused(f"no resource has this name: did you mean {meant!r}?")
    if not str(amount).isdecimal():
        return refused(
            "extended resources are whole numbers, the API server takes no other: write 16 for"
            " sixteen units of 1 GiB"
        )
    if not equal:
        return refused("request and limit of an extended resource must be equal")
    return applied(f"the pod gets {amount} of {name}, on a node that offers them")


def _node(content: Mapping[str, Any]) -> Iterator[Entry]:
    metadata, spec = content.get("metadata"), content.get("spec")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    for name, value in (labels or {}).items():
        yield Entry(f"metadata.labels.{name}", str(value), _LABELS.get(name, _NOT_OURS))
    taints = spec.get("taints") if isinstance(spec, Mapping) else None
    for number, taint in enumerate(taints or ()):
        yield Entry(f"spec.taints[{number}]", str(taint.get("key")), _TAINT)


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def _all(telling: Telling) -> Callable[[Mapping[str, Any]], Iterator[Entry]]:
    def tell(content: Mapping[str, Any]) -> Iterator[Entry]:
        parts = {k: v for k, v in content.items() if k not in ("apiVersion", "kind", "metadata")}
        yield from (Entry(path, str(value), telling) for path, value in _leaves(parts, ""))

    return tell


def _runtime(content: Mapping[str, Any]) -> Iterator[Entry]:
    for path, value in _leaves(content, ""):
        program = str(value).rpartition("/")[2]
        yield Entry(path, str(value), _RUNTIMES.get(program, _RUNTIME_FILE))


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Entry]]] = {
    "Node": _node,
    "VirtualService": _all(_MESH),
    "ServiceProfile": _all(_MESH),
    "KubeSchedulerConfiguration": _all(_SCHEDULER),
    "containerd": _runtime,
    "CRI-O": _runtime,
}
