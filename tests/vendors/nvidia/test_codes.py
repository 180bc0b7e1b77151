"""NVML's return codes: each its class and its advice."""

import pytest

from deviceplugin.errors import LibraryError
from deviceplugin.faults import code_problem
from deviceplugin.model import FaultClass
from deviceplugin.vendors.nvidia.codes import MEANINGS, meaning_of

CLASSES = {
    FaultClass.SETUP: {1, 3, 4, 9, 12, 13, 17, 18, 19, 20, 27, 28},
    FaultClass.HARDWARE: {8, 11, 14},
    FaultClass.REBOOT: {15},
}


@pytest.mark.parametrize("code", [*range(1, 31), 999, 12345])
def test_each_code_has_its_class(code: int) -> None:
    meaning = meaning_of(LibraryError("nvmlDeviceGetName", code, "what NVML says"))
    kinds = [kind for kind, codes in CLASSES.items() if code in codes]
    assert meaning.kind is (kinds[0] if kinds else FaultClass.RESET)
    assert meaning.what
    assert meaning.action
    assert code_problem(meaning.name) is None


def test_a_reboot_is_advised_for_a_lost_gpu_alone() -> None:
    every = {code: meaning_of(LibraryError("f", code, "")) for code in (*range(1, 31), 999)}
    assert [code for code, meaning in every.items() if "reboot" in meaning.action] == [15]


def test_names_of_0_1_stay() -> None:
    assert {code: MEANINGS[code].name for code in (4, 15, 16)} == {
        4: "nvml_4",
        15: "gpu_lost",
        16: "reset_required",
    }
