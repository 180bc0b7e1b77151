"""The savings that are computed together are those that two bills give for each change."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.advice.advise import Adviser
from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.replay import Replay
from deviceplugin.advice.savings import Savings
from deviceplugin.advice.values import Change, shown, workload_of
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.history import Cell, History
from tests.advice.examples import fleet, hourly, steady
from tests.cost.drawn import TABLE, histories
from tests.cost.examples import costs


def measured(found: History) -> History:
    """With what is needed to know that somebody is idle, and a limit of power."""
    return found.with_cells([_measured(cell) for cell in found.cells])


def _measured(cell: Cell) -> Cell:
    grants = tuple(replace(grant, copying=grant.active) for grant in cell.grants)
    read = replace(cell.readings, power_limit_watts=500.0 + 200 * (cell.seconds == 3600))
    return replace(cell, grants=grants, readings=read)


def changes(found: History, share: float, after: float) -> Iterator[Change]:
    """Everything that could be changed for anybody."""
    for device in found.devices.values():
        limited = Change(kind="energy", model=device.model, factor=0.8, limit_watts=500.0)
        yield replace(limited, profile=device.profile)
    for cell in found.cells:
        device = found.devices[cell.device]
        for grant in cell.grants:
            held = Change(
                kind="share",
                namespace=grant.namespace,
                workload=workload_of(grant),
                container=grant.container,
                model=device.model,
                profile=device.profile,
                share=share,
            )
            yield held
            yield replace(held, kind="release", share=1.0, after_hours=after)


@given(histories(), st.sampled_from([0.1, 0.3, 0.9]), st.sampled_from([0.0, 0.5, 10.0]))
@settings(max_examples=60, deadline=None)
def test_together_they_are_what_two_bills_give(found: History, share: float, after: float) -> None:
    found = measured(found)
    biller, judge = Biller(costs(time_zone="Europe/Berlin", prices=TABLE)), IdleJudge(found)
    all_ = [*changes(found, share, after)]
    together = Savings(found, biller, judge).of(all_)
    replay = Replay(found, biller, judge)
    assert [*together] == [replay.saving(one) for one in all_]


def test_a_saving_is_more_than_nothing_where_there_is_one() -> None:
    """The comparison above would hold as well if nothing were ever saved."""
    found = fleet(
        hourly(steady("a"), days=8),
        hourly(steady("b", active=0.0, copying=0.0), of="GPU-1"),
        gpus=2,
    )
    adviser = Adviser(found, Biller(costs()))
    saved = [one for one in adviser.advice() if one.saving is not None and one.change is not None]
    assert {one.kind for one in saved} >= {"right-size", "share", "layout"}
    for one in saved:
        assert one.saving is not None
        assert one.change is not None
        assert one.saving.gpu_hours > 0
        assert adviser.saving(one.change) == one.saving


@pytest.mark.parametrize(("value", "seen"), [(0.125, 0.12), (0.375 - 1e-12, 0.38), (-1e-9, 0.0)])
def test_half_a_cent_is_rounded_alike_however_it_was_summed(value: float, seen: float) -> None:
    assert (shown(value, 2), str(shown(value, 2))) == (seen, str(seen))
