"""Compute units of slices, as ROCr reads them."""

import pytest

from deviceplugin.errors import AllocationError
from deviceplugin.model import Device, DeviceID, Share, frozen
from deviceplugin.vendor import Grant
from deviceplugin.vendors.amd.compute import mask_edits, units_of_slice, why_unlimited


def card(units: str = "104", architecture: str = "gfx90a") -> Device:
    return Device(
        id=DeviceID("card"),
        vendor="amd",
        architecture=architecture,
        attributes=frozen({"compute_units": units} if units else {}),
    )


def grant(percent: int | None, *numbers: int, device: Device | None = None) -> Grant:
    share = Share(count=4, unit_bytes=1 << 32, compute_percent=percent)
    return Grant(device=device or card(), share=share, count=len(numbers) or 1, numbers=numbers)


@pytest.mark.parametrize(
    ("numbers", "mask"),
    [((0,), "0:0-25"), ((3,), "0:78-103"), ((0, 1), "0:0-51"), ((0, 2, 3), "0:0-25,52-103")],
    ids=str,
)
def test_slices_are_runs_of_units(numbers: tuple[int, ...], mask: str) -> None:
    assert dict(mask_edits([grant(25, *numbers)]).env) == {"HSA_CU_MASK": mask}


def test_each_gpu_of_a_container_has_a_mask_of_its_own() -> None:
    small = card("38")
    found = mask_edits([grant(25, 0), grant(50, 1, device=small)]).env
    assert found["HSA_CU_MASK"] == "0:0-25;1:19-37"


@pytest.mark.parametrize(
    ("architecture", "units"),
    [("gfx90a", 31), ("gfx1030", 30), ("gfx1100", 30), ("gfx1201", 30)],
)
def test_no_mask_splits_a_work_group_processor(architecture: str, units: int) -> None:
    share = grant(30).share
    assert units_of_slice(card("104", architecture), share) == units


def test_slices_without_compute_and_gpus_of_unknown_size_have_no_mask() -> None:
    assert not mask_edits([grant(None, 0)]).env
    assert not mask_edits([grant(25, 0, device=card(""))]).env
    assert "unknown" in why_unlimited(card(""), grant(25).share)


def test_a_share_of_no_unit_is_refused_because_it_would_be_read_as_no_mask() -> None:
    tiny = card("38")
    assert "1% of card" in why_unlimited(tiny, grant(1).share)
    with pytest.raises(AllocationError, match="less than the smallest mask"):
        mask_edits([grant(1, 0, device=tiny)])
