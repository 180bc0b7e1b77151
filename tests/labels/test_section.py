"""The section `labels`: what cannot work is refused, with what would."""

import msgspec
import pytest

from deviceplugin.labels.section import LabelsSection


def decoded(**keys: object) -> LabelsSection:
    return msgspec.convert(keys, LabelsSection)


def test_labels_are_off_by_default() -> None:
    assert LabelsSection().apply == "off"


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"apply": "file", "common_labels": True}, "common_labels: apply: api"),
        ({"apply": "file", "taints": [{"key": "a/b", "effect": "NoSchedule"}]}, "taints: apply"),
        ({"apply": "api", "node_type": "two words"}, "node_type"),
        ({"taints": [{"key": "kubernetes.io/x", "effect": "NoSchedule"}]}, "Kubernetes' own"),
        ({"taints": [{"key": "a/b", "effect": "NoSchedule", "value": "-"}]}, "value: a label"),
        ({"taints": [{"key": "a/b", "effect": "Never"}]}, "Never"),
        ({"expires_s": 60}, "120"),
        ({"apply": "node"}, "node"),
    ],
)
def test_what_cannot_work_is_refused(keys: dict[str, object], word: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=word):
        decoded(**keys)


def test_all_can_be_asked_of_the_api_server() -> None:
    taint = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    assert decoded(apply="api", common_labels=True, taints=[taint]).taints[0].value == ""
