"""No label is ever written that Kubernetes refuses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.labels.own import common_labels, own_labels
from deviceplugin.labels.values import checked, key_problem, label_value, slug, value_problem
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor.labels import LabelView
from deviceplugin.vendors.intel.labels import split
from deviceplugin.vendors.nvidia.labels import NodeFacts, node_labels
from tests.labels.nodes import view_of

# As in apimachinery, written a second time.
VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", re.ASCII)
NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
TEXTS = st.one_of(st.text(max_size=90), st.from_regex(r"\A[A-Za-z0-9 ._+/()-]{0,90}\Z"))


def is_taken(key: str, value: str) -> bool:
    prefix, _, name = key.rpartition("/")
    good = len(prefix) <= 253 and len(name) <= 63 and NAME.fullmatch(name) is not None
    return good and len(value) <= 63 and VALUE.fullmatch(value) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3"),
        ("Intel(R) Arc(TM) Pro B60", "IntelR-ArcTM-Pro-B60"),
        ("  Tesla  V100-SXM2-32GB ", "Tesla-V100-SXM2-32GB"),
        ("GRID A100D-7-40C MIG 7g.40gb", "GRID-A100D-7-40C-MIG-7g.40gb"),
        ("名前", None),
        ("...", None),
        ("", None),
        (None, None),
        ("x" * 70, "x" * 63),
    ],
)
def test_a_text_becomes_a_value(text: str | None, value: str | None) -> None:
    assert label_value(text) == value


def test_a_short_name_is_lower_case_without_trade_marks() -> None:
    assert slug("Intel(R) Data Center GPU Flex_170") == "intel-data-center-gpu-flex-170"


@given(TEXTS)
def test_every_text_becomes_a_value_that_is_taken_or_none(text: str) -> None:
    for made in (label_value(text), slug(text)):
        assert made is None or value_problem(made) is None
        assert made is None or is_taken("a", made)


@given(st.dictionaries(TEXTS, TEXTS, max_size=6))
def test_what_a_vendor_says_is_taken_or_named_with_the_reason(labels: dict[str, str]) -> None:
    good, problems = checked(labels)
    assert good.keys() | problems.keys() == labels.keys()
    assert all(is_taken(key, value) for key, value in good.items())
    assert all(problems.values())


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("nvidia.com/gpu.count", True),
        ("gpu.count", True),
        ("feature.node.kubernetes.io/amd-gpu", True),
        ("intel.feature.node.kubernetes.io/gpu", True),
        ("node-role.kubernetes.io/control-plane", False),
        ("kubernetes.io/hostname", False),
        ("node.k8s.io/x", False),
        ("UPPER.example/x", False),
        ("/x", False),
        ("example.com/", False),
        ("example.com/" + "x" * 64, False),
    ],
)
def test_a_name_of_kubernetes_own_is_never_written(key: str, good: bool) -> None:
    assert (key_problem(key) is None) is good


@given(st.lists(st.tuples(TEXTS, TEXTS, st.none() | st.integers(0, 1 << 50)), max_size=4))
def test_labels_of_any_names_of_hardware_are_taken(
    devices: list[tuple[str, str, int | None]],
) -> None:
    made = [
        Device(
            id=DeviceID(f"GPU-{number}"),
            vendor="nvidia",
            product=product,
            architecture=other,
            profile=other,
            parent=DeviceID("GPU-0") if number else None,
            memory_bytes=memory,
        )
        for number, (product, other, memory) in enumerate(devices)
    ]
    view = view_of(*made)
    ours = own_labels(view) | common_labels(view, "gpu")
    assert [key for key, value in ours.items() if not is_taken(key, value)] == []


@given(TEXTS, TEXTS, TEXTS)
def test_the_names_of_nvidias_products_are_cut_so_that_they_are_taken(
    product: str, machine: str, branch: str
) -> None:
    device = Device(id=DeviceID("GPU-0"), vendor="nvidia", product=product)
    part = Device(
        id=DeviceID("MIG-0"),
        vendor="nvidia",
        product=product,
        parent=device.id,
        profile="1g.5gb+me",
    )
    facts = NodeFacts(mig_strategy="mixed", machine=machine, host_driver=("1", branch))
    found = node_labels(LabelView(devices=(device, part)), facts)
    assert [key for key, value in found.items() if not is_taken(key, value)] == []


@given(st.from_regex(r"\A[0-9][0-9._-]{0,300}[0-9]\Z"))
def test_a_value_that_is_split_is_taken_and_whole(value: str) -> None:
    parts = split("cards", value)
    assert all(is_taken(key, part) for key, part in parts.items() if part.strip("-_.Z"))
    joined = "".join(part.removeprefix("Z") for part in parts.values())
    assert joined == value
