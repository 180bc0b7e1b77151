"""Sharing, layouts, power caps and heat: what the history shows, and the replay of each."""

from functools import cache
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from deviceplugin.advice.advise import worthwhile
from deviceplugin.advice.layouts import Hour, Need, gpus_needed
from deviceplugin.advice.products import Slot, cuts_of
from deviceplugin.advice.replay import Replay
from deviceplugin.advice.values import Advice, Change
from deviceplugin.config.load import load
from deviceplugin.cost.history import Cell, History, Readings
from tests.advice.examples import DAY, GIB, Make, adviser, fleet, hourly, of_kind, steady
from tests.cost.examples import H100, cell, device, grant, history

GIBIBYTES_80 = 80 << 30


def test_two_that_never_want_more_than_a_gpu_together_may_share_one() -> None:
    found = fleet(hourly(steady("a")), hourly(steady("b"), of="GPU-1"), gpus=2)
    pair = of_kind(adviser(found).advice(), "share")
    assert [one.subject for one in pair] == [f"ml/a on {H100}", f"ml/b on {H100}"]
    assert sum(one.saving.gpu_hours for one in pair if one.saving) == pytest.approx(14 * DAY)
    assert pair[0].evidence["common_hours_over_one_gpu"] == 0


def test_two_that_work_in_the_same_hours_may_not() -> None:
    """Each works in one hour of 25 (P95 is 0), the same hour."""

    def busy(pod: str) -> Make:
        return lambda hour: grant(
            pod, active=0.9 if hour % 25 == 0 else 0.0, memory_bytes=(10 + hour % 2) * GIB
        )

    found = fleet(hourly(busy("a")), hourly(busy("b"), of="GPU-1"), gpus=2)
    assert of_kind(adviser(found).advice(), "share") == []


def test_the_patch_of_sharing_is_a_configuration_that_is_valid(tmp_path: Path) -> None:
    found = fleet(hourly(steady("a")), hourly(steady("b"), of="GPU-1"), gpus=2)
    one = of_kind(adviser(found).advice(), "share")[0]
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(one.patch))
    load({"config": str(tmp_path / "a.json")})


def test_an_h100_has_the_layouts_of_the_guide() -> None:
    """18 of NVIDIA's guide are full; here the order of places is one and the same layout."""
    cuts = cuts_of("nvidia", H100, GIBIBYTES_80)
    mig = [cut.layout.mig for cut in cuts]
    assert {"1g.10gb": 7} in mig
    assert {"3g.40gb": 2} in mig
    assert {"3g.40gb": 1, "4g.40gb": 1} in mig
    assert {"1g.20gb": 4} in mig
    assert all(sum(slot.memory_bytes for slot in cut.slots) <= GIBIBYTES_80 for cut in cuts)
    assert all(sum(slot.compute for slot in cut.slots) <= 1 + 1e-9 for cut in cuts)


def test_an_instinct_has_its_modes_and_what_is_not_known_has_none() -> None:
    cuts = cuts_of("amd", "AMD Instinct MI300X", 192 << 30)
    assert [cut.layout.compute for cut in cuts] == ["DPX", "QPX", "CPX"]
    assert cuts_of("nvidia", "NVIDIA L4", 24 << 30) == ()
    assert cuts_of("intel", "Intel Data Center GPU Max", 48 << 30) == ()


@pytest.mark.parametrize(
    ("needs", "gpus"),
    [((), 0), (((5, 0.1),), 1), (((5, 0.1),) * 3, 2), (((5, 0.6),), 1), (((30, 0.1),) * 2, 2)],
)
def test_gpus_are_counted_by_what_fits_in_their_slots(
    needs: tuple[tuple[float, float], ...], gpus: int
) -> None:
    """A slot of 10 and one of 20, half of the compute each; what fits in none has a GPU."""
    slots = (
        Slot(memory_bytes=10, compute=0.5, name="a"),
        Slot(memory_bytes=20, compute=0.5, name="b"),
    )
    wanted = tuple(Need(memory_bytes=memory, compute=compute) for memory, compute in needs)
    hour = Hour(hours=1, held=9, wholes=0, needs=tuple(sorted(wanted, reverse=True)))
    assert gpus_needed(hour, slots) == gpus
    assert gpus_needed(replace(hour, wholes=2), slots) == gpus + 2


@cache
def small_jobs() -> History:
    cells = [hourly(steady(f"p{n}", active=0.1), of=f"GPU-{n}") for n in range(7)]
    return fleet(*cells, gpus=7)


def test_seven_small_workloads_would_have_had_one_gpu_in_slices() -> None:
    (one,) = of_kind(adviser(small_jobs()).advice(), "layout")
    assert one.evidence["gpus_held_at_peak"] == 7
    assert one.evidence["gpus_needed_at_peak"] == 2
    assert one.patch["partitions"][0]["mig"] == {"1g.20gb": 1, "2g.20gb": 3}
    assert one.saving is not None
    assert one.saving.gpu_hours == 5 * 14 * DAY
    assert one.saving.freed == 3 * 5 * 14 * DAY


def test_the_patch_of_a_layout_is_a_configuration_that_is_valid(tmp_path: Path) -> None:
    (one,) = of_kind(adviser(small_jobs()).advice(), "layout")
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(one.patch))
    load({"config": str(tmp_path / "a.json")})


def test_whoevers_need_is_not_known_keeps_a_gpu() -> None:
    cells = [hourly(steady(f"p{n}", active=0.1), of=f"GPU-{n}", days=3) for n in range(7)]
    assert of_kind(adviser(fleet(*cells, gpus=7)).advice(), "layout") == []


def limited(watts: float, power: float, clock: float, hours: range) -> list[Cell]:
    read = Readings(power_limit_watts=watts, power_watts=power, clock_hertz=clock)
    return [cell(grant(active=0.9), hour=hour, readings=read) for hour in hours]


def capped(low: tuple[float, float], hours: int = 30) -> list[Advice]:
    """Hours under 700 W, and as many under 500 W with that power and clock."""
    cells = limited(700, 650, 1.9e9, range(hours))
    cells += limited(500, *low, range(hours, 2 * hours))
    prices = [{"hourly": 3, "source": "x", "dated": "2026-01-01", "energy": {"tariff_kwh": 0.3}}]
    return of_kind(adviser(history(*cells), prices=prices).advice(), "power-cap")


def test_a_cap_that_cost_little_clock_is_advised_with_what_it_took_less() -> None:
    (one,) = capped((490, 1.85e9))
    assert one.change == Change(
        kind="energy", model=H100, limit_watts=500, factor=round(490 / 650, 6)
    )
    assert one.saving is not None
    assert one.saving.kwh == pytest.approx(30 * 0.160, abs=0.002)
    assert one.saving.paid_less == pytest.approx(30 * 0.160 * 0.3, abs=0.01)
    assert one.saving.freed == 0


@pytest.mark.parametrize(
    ("low", "hours"),
    [((490, 1.7e9), 30), ((640, 1.85e9), 30), ((490, 1.85e9), 20)],
    ids=["too slow", "no less power", "too short"],
)
def test_a_cap_is_not_advised(low: tuple[float, float], hours: int) -> None:
    assert capped(low, hours) == []


def test_one_limit_shows_nothing() -> None:
    found = history(*limited(700, 650, 1.9e9, range(100)))
    assert of_kind(adviser(found).advice(), "power-cap") == []


def heated(kelvin: float, watts: float = 600) -> list[Advice]:
    cells = [
        cell(
            grant(f"p{n}", active=0.9),
            of=f"GPU-{n}",
            hour=hour,
            readings=Readings(
                power_watts=watts if n == 0 else 600,
                temperature_celsius=60 + (kelvin if n == 0 else n),
                clock_hertz=1.7e9 if n == 0 else 1.9e9,
            ),
        )
        for hour in range(30)
        for n in range(4)
    ]
    devices = tuple(device(f"GPU-{n}") for n in range(4))
    return of_kind(adviser(history(*cells, devices=devices)).advice(), "thermal-imbalance")


def test_a_gpu_that_is_hotter_than_its_peers_at_their_power_is_named_and_no_saving() -> None:
    (one,) = heated(15)
    assert one.subject == "GPU-0 on n1"
    assert one.evidence["hotter_kelvin"] == 13
    assert one.saving is None


def test_a_gpu_that_is_hotter_because_it_takes_more_is_not() -> None:
    assert heated(15, watts=700) == []
    assert heated(8) == []


def test_a_change_leaves_every_other_workload_as_it_was() -> None:
    found = fleet(hourly(steady("a", owner="x")), hourly(steady("b"), of="GPU-1"), gpus=2)
    one = adviser(found)
    change = Change(
        kind="share", namespace="ml", workload="x", container="", model=H100, share=0.25
    )
    replay = Replay(found, one._biller, one._judge)
    after = replay.changed(found, change)
    assert {g.share for c in after.cells for g in c.grants if g.pod == "a"} == {0.25}
    assert [c for c in after.cells if c.device == "GPU-1"] == [
        c for c in found.cells if c.device == "GPU-1"
    ]


def test_advice_is_the_same_again_and_what_saves_most_comes_first() -> None:
    first, second = (list(worthwhile(adviser(small_jobs()).advice())) for _ in range(2))
    assert first == second
    assert len({one.id for one in first}) == len(first)
    worth = [one.saving.freed for one in first if one.saving]
    assert worth == sorted(worth, reverse=True)
    assert all(one.saving is None or one.saving.gpu_hours > 0 for one in first)
