"""The patch that brings a node's labels and taints up to date; pure.

Which of them are ours stands in two annotations, so that another daemon after this one takes away
what is not true any more, and never what somebody else has set.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deviceplugin.vendor.labels import LABEL_PREFIX

Document = dict[str, Any]
OUR_LABELS, OUR_TAINTS = f"{LABEL_PREFIX}/labels", f"{LABEL_PREFIX}/taints"


def node_patch(
    node: Mapping[str, Any], labels: Mapping[str, str], taints: Sequence[Mapping[str, str]]
) -> tuple[Document | None, tuple[str, ...]]:
    """A merge patch, None where nothing is to be changed, and the labels that others have given
    another value, which stay."""
    metadata: Mapping[str, Any] = node["metadata"]
    present: Mapping[str, str] = metadata.get("labels") or {}
    told: Mapping[str, str] = metadata.get("annotations") or {}
    mine = _names(told.get(OUR_LABELS))
    owned = {k: v for k, v in labels.items() if k in mine or k not in present}
    left = tuple(k for k, v in sorted(labels.items()) if k not in owned and present[k] != v)
    changes: Document = {k: v for k, v in owned.items() if present.get(k) != v}
    changes |= {k: None for k in mine - owned.keys() if k in present}
    before = (node.get("spec") or {}).get("taints") or []
    after, taints_owned = _taints(before, taints, _names(told.get(OUR_TAINTS)))
    kept = {OUR_LABELS: sorted(owned), OUR_TAINTS: taints_owned}
    notes = {k: ",".join(v) or None for k, v in kept.items() if told.get(k, "") != ",".join(v)}
    if not changes and not notes and after == before:
        return None, left
    version = {"resourceVersion": metadata["resourceVersion"]}
    body: Document = {"metadata": {**version, "labels": changes, "annotations": notes}}
    return body | ({"spec": {"taints": after}} if after != before else {}), left


def _taints(
    before: Sequence[Mapping[str, str]], wanted: Sequence[Mapping[str, str]], mine: set[str]
) -> tuple[list[Mapping[str, str]], list[str]]:
    """The list as it should be, and which of it are ours."""
    others = [taint for taint in before if _name(taint) not in mine]
    taken = {_name(taint) for taint in others}
    ours = [taint for taint in wanted if _name(taint) not in taken]
    same = {_name(t) for t in ours} == {_name(t) for t in before} - taken
    if same and all(any(o.items() <= t.items() for t in before) for o in ours):
        return list(before), sorted(map(_name, ours))
    return [*others, *ours], sorted(map(_name, ours))


def _name(taint: Mapping[str, str]) -> str:
    """What two taints of a node cannot have in common."""
    return f"{taint['key']}:{taint['effect']}"


def _names(text: str | None) -> set[str]:
    return {name for name in (text or "").split(",") if name}
