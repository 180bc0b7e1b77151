"""What is said of selectors without CEL, and with it."""

import pytest

from deviceplugin.cli.cel import judge_of
from deviceplugin.scheduler.published import Kind
from deviceplugin.scheduler.selectors import Known, Others, Selecting, not_known

DRIVER = "gpu.nvidia.com"
OWN, STANDARD = f"device.attributes['{DRIVER}']", 'device.attributes["resource.kubernetes.io"]'
MEMORY = f"device.capacity['{DRIVER}'].memory"
H100 = Kind(
    DRIVER,
    {
        "type": {"string": "gpu"},
        "driverVersion": {"version": "570.86.15"},
        "ecc": {"bool": True},
        "resource.kubernetes.io/numaNode": {"int": 1},
    },
    {"memory": "80Gi"},
)
SAID = [
    (f'device.driver == "{DRIVER}"', True),
    ("device.driver != 'gpu.nvidia.com'", False),
    (f"device.driver == '{DRIVER}' && {OWN}.type == 'gpu'", True),
    (f"device.driver == '{DRIVER}' && {OWN}.type == 'mig'", False),
    (f"({OWN}.type == 'mig') || ({STANDARD}.numaNode == 1)", True),
    (f"{OWN}.type == 'mig' || {STANDARD}.numaNode > 1", False),
    (f"{OWN}.type in ['mig', 'gpu']", True),
    (f"{OWN}.ecc", True),
    (f"!{OWN}.ecc", False),
    (f"{OWN}.?profile.orValue('') == '1g.10gb'", False),
    (f"{OWN}.?profile.orValue('none') == 'none'", True),
    (f"'driverVersion' in {OWN}", True),
    (f"'profile' in {OWN}", False),
    (f"{MEMORY}.compareTo(quantity('40Gi')) >= 0", True),
    (f"{MEMORY}.isLessThan(quantity('80Gi'))", False),
    (f"{OWN}.driverVersion.isGreaterThan(semver('570.9.0'))", True),
    (f"{OWN}.driverVersion.compareTo(semver('571.0.0')) < 0", True),
    (f"{OWN}.missing == 'x'", False),
    (f"device.capacity['{DRIVER}'].cores.compareTo(quantity('1')) > 0", False),
]


def said(expression: str, others: Others = not_known) -> Known:
    return Selecting(others).takes((expression,), H100)


@pytest.mark.parametrize(("expression", "expected"), SAID, ids=[one for one, _ in SAID])
def test_comparisons_are_judged_as_the_scheduler_does(expression: str, expected: bool) -> None:
    assert said(expression) is expected


@pytest.mark.parametrize(
    "expression",
    [
        f"{OWN}.uuid == 'GPU-1'",
        f"'uuid' in {OWN}",
        f"{OWN}.productName.startsWith('NVIDIA')",
        f"{OWN}.type == 'gpu' && {OWN}.productName.startsWith('NVIDIA')",
        f"{MEMORY}.compareTo(quantity('lots')) > 0",
        f"{OWN}['type'] == 'gpu'",
        f"{OWN}.driverVersion == 'gpu'.substring(1",
    ],
)
def test_what_is_no_comparison_is_not_known(expression: str) -> None:
    assert said(expression) is None


def test_a_part_that_is_known_may_decide() -> None:
    assert said(f"{OWN}.type == 'mig' && {OWN}.productName.startsWith('NVIDIA')") is False


def test_what_cannot_be_judged_takes_no_device_of_a_driver_that_it_does_not_name() -> None:
    assert said("device.driver.startsWith('gpu.')") is False


@pytest.mark.parametrize(("expression", "expected"), SAID, ids=[one for one, _ in SAID])
def test_cel_says_the_same(expression: str, expected: bool) -> None:
    pytest.importorskip("cel_expr_python")
    judge = judge_of(expression)
    assert judge is not None
    assert judge(H100) is expected


def test_cel_judges_what_is_no_comparison_where_it_is_installed() -> None:
    pytest.importorskip("cel_expr_python")
    assert said(f"{OWN}.type.startsWith('g')", judge_of) is True
    assert said(f"{OWN}.type.startsWith('m')", judge_of) is False
    assert said(f"{OWN}.uuid.startsWith('GPU')", judge_of) is None
    assert said("gpu.nvidia.com is no CEL(", judge_of) is None
