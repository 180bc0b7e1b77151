"""The patch of a node: what is ours is kept true, what others set stays."""

from typing import Any

from deviceplugin.labels.node_patch import OUR_LABELS, OUR_TAINTS, node_patch

TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
OTHER = {"key": "other", "effect": "NoExecute"}


def node(labels: dict[str, str], ours: str = "", **more: Any) -> dict[str, Any]:
    taints = more.get("taints", [])
    notes = {OUR_LABELS: ours, OUR_TAINTS: more.get("our_taints", "")}
    metadata = {"resourceVersion": "7", "labels": labels, "annotations": notes}
    return {"metadata": metadata, "spec": {"taints": taints}}


def test_a_new_label_is_written_with_a_note_of_its_owner() -> None:
    body, left = node_patch(node({"a": "1"}), {"x/b": "2"}, ())
    assert left == ()
    assert body == {
        "metadata": {
            "resourceVersion": "7",
            "labels": {"x/b": "2"},
            "annotations": {OUR_LABELS: "x/b"},
        }
    }


def test_what_is_not_true_any_more_is_taken_away_and_only_that() -> None:
    body, _ = node_patch(node({"a": "1", "x/b": "2", "x/c": "3"}, "x/b,x/c"), {"x/c": "3"}, ())
    assert body is not None
    assert body["metadata"]["labels"] == {"x/b": None}


def test_a_label_of_somebody_else_stays() -> None:
    body, left = node_patch(node({"x/b": "theirs"}), {"x/b": "ours"}, ())
    assert (body, left) == (None, ("x/b",))


def test_a_label_of_somebody_else_with_our_value_is_not_taken_over() -> None:
    assert node_patch(node({"x/b": "same"}), {"x/b": "same"}, ()) == (None, ())


def test_nothing_is_written_where_all_is_well() -> None:
    seen = node({"x/b": "2"}, "x/b", taints=[TAINT, OTHER], our_taints="nvidia.com/gpu:NoSchedule")
    assert node_patch(seen, {"x/b": "2"}, (TAINT,)) == (None, ())


def test_a_taint_is_added_beside_the_others() -> None:
    body, _ = node_patch(node({}, taints=[OTHER]), {}, (TAINT,))
    assert body is not None
    assert body["spec"] == {"taints": [OTHER, TAINT]}
    assert body["metadata"]["annotations"] == {OUR_TAINTS: "nvidia.com/gpu:NoSchedule"}


def test_our_taint_is_taken_away_and_one_of_somebody_else_is_not() -> None:
    seen = node({}, taints=[TAINT, OTHER], our_taints="nvidia.com/gpu:NoSchedule")
    body, _ = node_patch(seen, {}, ())
    assert body is not None
    assert body["spec"] == {"taints": [OTHER]}
    theirs = node({}, taints=[TAINT, OTHER])
    assert node_patch(theirs, {}, ()) == (None, ())


def test_another_value_of_our_taint_replaces_it() -> None:
    seen = node({}, taints=[TAINT], our_taints="nvidia.com/gpu:NoSchedule")
    body, _ = node_patch(seen, {}, ({**TAINT, "value": "present"},))
    assert body is not None
    assert body["spec"] == {"taints": [{**TAINT, "value": "present"}]}


def test_a_node_without_labels_and_annotations_can_be_patched() -> None:
    body, _ = node_patch({"metadata": {"resourceVersion": "1"}}, {"x/b": "2"}, ())
    assert body is not None
