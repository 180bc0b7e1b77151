"""What the answers of Allocate hold. It reads the node's files below the roots that are given."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.answers import merge_answers
from deviceplugin.testing.conformance.cdi_specs import described
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Finding, failed, judged, lost, skipped

LINES = (49, 50, 51, 52, 53, 54, 55, 57)
Answer: TypeAlias = pluginapi.ContainerAllocateResponse
CDI_ANNOTATION = "cdi.k8s.io/"
_CDI_NAME = re.compile(
    r"(?P<kind>[A-Za-z]([\w.-]*[A-Za-z0-9])?/[A-Za-z]([\w-]*[A-Za-z0-9])?)"
    r"=(?P<device>[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?)"
)
_SECRET = re.compile(r"passw|secret|token|credential|private_?key|api_?key", re.IGNORECASE)
_RUNTIME_VARIABLE = "NVIDIA_VISIBLE_DEVICES"


def judge_answers(answers: Mapping[str, Sequence[Answer]], settings: Settings) -> Iterator[Finding]:
    """Findings about lines 49 to 55 and 57; `answers` are those of each resource."""
    every = [answer for some in answers.values() for answer in some]
    if not every:
        yield from (lost(line, "no device was allocated") for line in LINES)
        return
    count = f"{len(every)} answers"
    yield _paths(every, settings.host_root)
    yield from _across([some[0] for some in answers.values() if some])
    yield judged(51, (p for answer in every for p in _within(answer)), count)
    yield _cdi(every, settings.cdi_dir)
    yield judged(53, (p for answer in every for p in _both_ways(answer)), count)
    keys = sorted({key for answer in every for key in answer.annotations})
    theirs = [f"annotation {key}" for key in keys if key.startswith("io.kubernetes.")]
    yield judged(54, theirs, f"{count} with {len(keys)} annotations")
    bare = (_bareness(answer) for answer in every)
    yield judged(55, filter(None, bare), f"{count}, each with nodes, mounts or CDI names")
    yield _secrets(every)


def cdi_names(answer: Answer) -> list[str]:
    """The CDI names of an answer, those in annotations too."""
    values = [value for key, value in answer.annotations.items() if key.startswith(CDI_ANNOTATION)]
    listed = [name.strip() for value in values for name in value.split(",")]
    return [*(cdi.name for cdi in answer.cdi_devices), *listed]


def same_for_all(answer: Answer) -> tuple[object, ...]:
    """What the kubelet and a container can tell of an answer.

    Neither sees the order of nodes, mounts and CDI names, the order of the parts of a variable's
    list, or under which annotation a CDI name came.
    """
    parts = {key: sorted(value.split(",")) for key, value in answer.envs.items()}
    notes = {k: v for k, v in answer.annotations.items() if not k.startswith(CDI_ANNOTATION)}
    nodes, mounts = (
        sorted(one.SerializeToString(deterministic=True) for one in some)
        for some in (answer.devices, answer.mounts)
    )
    return parts, notes, nodes, mounts, sorted(cdi_names(answer))


def _paths(answers: Iterable[Answer], root: Path) -> Finding:
    nodes = {(n.host_path, n.permissions) for answer in answers for n in answer.devices}
    mounts = {mount.host_path for answer in answers for mount in answer.mounts}
    if not nodes and not mounts:
        return skipped(49, "no answer has device nodes or mounts")
    problems = [
        f"{path}: permissions {permissions!r} are not made of r, w and m"
        for path, permissions in sorted(nodes)
        if not permissions or set(permissions) - set("rwm")
    ]
    for path in sorted({path for path, _ in nodes} | mounts):
        if not (root / path.lstrip("/")).exists():
            problems.append(f"{path} does not exist below {root}")
    return judged(49, problems, f"{len(nodes)} nodes and {len(mounts)} mounts")


def _across(first: Sequence[Answer]) -> Iterator[Finding]:
    if len(first) < 2:
        yield skipped(50, "one resource only")
        return
    clashes = [
        clash for pair in combinations(first, 2) for clash in sorted(merge_answers(pair).conflicts)
    ]
    variables = [f"{clash} differs" for clash in clashes if clash.startswith("env ")]
    yield judged(50, variables, f"one answer each of {len(first)} resources")
    paths = [f"{c} differs" for c in clashes if c.startswith(("device ", "mount "))]
    yield judged(51, paths, f"one answer each of {len(first)} resources")


def _within(answer: Answer) -> Iterator[str]:
    sources: dict[str, str] = {}
    pairs = [(node.container_path, node.host_path) for node in answer.devices]
    pairs += [(mount.container_path, mount.host_path) for mount in answer.mounts]
    for path, host_path in pairs:
        if (before := sources.setdefault(path, host_path)) != host_path:
            yield f"{path} is {before} and {host_path}"


def _cdi(answers: Iterable[Answer], directory: Path | None) -> Finding:
    names = sorted({name for answer in answers for name in cdi_names(answer)})
    if not names:
        return skipped(52, "no answer has CDI names")
    if invalid := [
        f"{name!r} is not a CDI name" for name in names if not _CDI_NAME.fullmatch(name)
    ]:
        return judged(52, invalid, "")
    if directory is None:
        return skipped(52, f"{len(names)} valid names; --cdi-dir is needed to look for their specs")
    known = described(directory)
    unknown = [f"{name} is in no spec of {directory}" for name in names if name not in known]
    return judged(52, unknown, f"{len(names)} names in {directory}")


def _both_ways(answer: Answer) -> Iterator[str]:
    if not cdi_names(answer):
        return
    if answer.devices:
        yield f"CDI names and device nodes {[node.host_path for node in answer.devices]}"
    value = answer.envs.get(_RUNTIME_VARIABLE, "void")
    if value != "void":
        yield f"CDI names and {_RUNTIME_VARIABLE}={value}"


def _bareness(answer: Answer) -> str:
    if answer.devices or answer.mounts or cdi_names(answer):
        return ""
    if answer.envs:
        return f"nothing but variables: {sorted(answer.envs)}"
    # a hook of the runtime may read annotations, which no pod can override
    return "" if answer.annotations else "an empty answer: the container gets nothing"


def _secrets(answers: Iterable[Answer]) -> Finding:
    keys = {key for answer in answers for key in (*answer.envs, *answer.annotations)}
    if named := sorted(filter(_SECRET.search, keys)):
        return failed(57, f"named like secrets: {named}")
    return skipped(
        57, f"none of {len(keys)} names looks like one; a value does not show what it is"
    )
