"""Rates, the drawn fleet, and the back-test: what it may know, and what it says."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.errors import ConfigError
from deviceplugin.maintenance.backtest import (
    Plan,
    Quality,
    area,
    backtest,
    cohort_baseline,
    learned,
)
from deviceplugin.maintenance.rates import Rates
from deviceplugin.maintenance.report import backtest_text, document_of, plot
from deviceplugin.maintenance.signs import Noted
from deviceplugin.maintenance.units import Kind, Unit, read_units
from deviceplugin.simulate import fleet as drawn
from tests.rig import run_command

PLAN = Plan(
    first=0,
    tested=drawn.FIRST_TESTED * drawn.QUARTER_DAYS,
    last=drawn.QUARTERS * drawn.QUARTER_DAYS,
    window=drawn.QUARTER_DAYS,
)
HEAD = "gpu,cohort,traits,installed,removed,failure\n"


@cache
def fleet() -> tuple[drawn.Fleet, Sequence[Unit]]:
    made = drawn.Fleet(1)
    return made, made.play()


@cache
def qualities() -> dict[str, Quality]:
    made, units = fleet()
    return {
        "learned": backtest(units, PLAN, learned(units, PLAN)),
        "cohort": backtest(units, PLAN, cohort_baseline(units, PLAN)),
        "ceiling": backtest(units, PLAN, partial(drawn.ceiling, made)),
    }


def years(units: Sequence[Unit]) -> float:
    end = PLAN.last
    return sum((end if u.removed is None else u.removed) - u.installed for u in units) / 365.25


def failures(units: Sequence[Unit]) -> int:
    return sum(unit.failure is not None for unit in units)


def test_the_drawn_fleet_fails_as_often_as_the_published_one() -> None:
    _, units = fleet()
    first = [unit for unit in units if unit.cohort.startswith("first")]
    reworked = [unit for unit in units if unit.cohort.startswith("reworked")]
    assert failures(first) == pytest.approx(5027, rel=0.03)
    assert 100 * failures(first) / years(first) == pytest.approx(6.6, rel=0.1)
    assert 100 * failures(reworked) / years(reworked) == pytest.approx(0.25, rel=0.35)
    assert len(units) == pytest.approx(30_207, rel=0.03)


@pytest.mark.parametrize(("cage", "published"), [(0, 3.4), (1, 7.1), (2, 11.4)])
def test_each_cage_of_the_drawn_fleet_fails_as_published(cage: int, published: float) -> None:
    units = [unit for unit in fleet()[1] if unit.cohort == f"first/cage-{cage}"]
    assert 100 * failures(units) / years(units) == pytest.approx(published, rel=0.12)


def test_the_failures_of_each_quarter_are_the_published_ones_give_or_take_chance() -> None:
    counts = Counter(
        (unit.removed or 0) // drawn.QUARTER_DAYS
        for unit in fleet()[1]
        if unit.failure and unit.cohort.startswith("first")
    )
    for quarter, published in enumerate(map(sum, drawn.FAILURES)):
        assert abs(counts[quarter] - published) <= 4 * published**0.5 + 2, quarter


def test_the_rates_order_and_calibrate_better_than_the_simple_rule_and_near_what_can_be_known() -> (
    None
):
    found = qualities()
    rates, rule, most = found["learned"], found["cohort"], found["ceiling"]
    assert rates.auc is not None
    assert rule.auc is not None
    assert most.auc is not None
    assert rule.auc < rates.auc < most.auc
    assert rates.auc > 0.98 * most.auc
    assert rates.skill is not None
    assert rule.skill is not None
    assert rates.skill > 0 > rule.skill
    assert rates.calibrated_quarters >= 9 > rule.calibrated_quarters
    assert rates.precision > 8 * rates.base


def test_who_knows_the_drawn_probabilities_is_calibrated_in_every_quarter() -> None:
    most = qualities()["ceiling"]
    assert most.calibrated_quarters == len(most.quarters) == 12


def test_shuffling_the_future_changes_no_score() -> None:
    _, units = fleet()
    now = 12 * drawn.QUARTER_DAYS
    others = shuffled_after(units, now)
    assert others != units
    there = [unit for unit in units if unit.is_there(now)]
    changed = [unit for unit in others if unit.is_there(now)]
    assert [unit.gpu for unit in there] == [unit.gpu for unit in changed]
    assert learned(units, PLAN)(there, now) == learned(others, PLAN)(changed, now)
    assert cohort_baseline(units, PLAN)(there, now) == cohort_baseline(others, PLAN)(changed, now)


def test_what_is_noted_from_a_landmark_on_changes_no_score() -> None:
    _, units = fleet()
    now = 12 * drawn.QUARTER_DAYS
    there = [unit for unit in units if unit.is_there(now)]
    before = {unit.gpu: [(now - 5, "silent")] for unit in there[:200]}
    early = Noted(before)
    late = Noted({gpu: [*days, (now, "throttled")] for gpu, days in before.items()})
    assert learned(units, PLAN, early)(there, now) == learned(units, PLAN, late)(there, now)


def test_a_sign_that_precedes_failures_is_learned_and_one_that_does_not_is_worth_nothing() -> None:
    chance = random.Random(3)
    units, days = [], {}
    for number in range(4000):
        fails = chance.random() < 0.05
        removed = chance.randrange(40, 300) if fails else None
        one = unit(number, Kind.OFF_BUS if fails else None, removed)
        units.append(one)
        noted = [(removed - 10, "silent")] if removed is not None and chance.random() < 0.5 else []
        noted += [(chance.randrange(300), "hotter")] if chance.random() < 0.3 else []
        noted += [(chance.randrange(300), "silent")] if chance.random() < 0.02 else []
        days[one.gpu] = sorted(noted)
    plan = Plan(first=0, tested=180, last=280, window=20)
    noted_ = Noted(days)
    rates = Rates(noted_)
    for start in range(0, 180, 20):
        rates.learn(units, start, start + 20)
    assert rates.worth["silent", Kind.OFF_BUS].ratio > 10
    assert rates.worth["silent", Kind.MEMORY].ratio <= 1
    assert 0.4 < rates.worth["hotter", Kind.OFF_BUS].ratio < 2
    with_signs = backtest(units, plan, learned(units, plan, noted_))
    without = backtest(units, plan, learned(units, plan))
    assert with_signs.auc is not None
    assert without.auc is not None
    assert with_signs.auc > without.auc + 0.1
    assert with_signs.precision > 3 * without.precision
    assert (
        0.7
        < sum(q.expected for q in with_signs.quarters) / sum(q.failed for q in with_signs.quarters)
        < 1.4
    )


@pytest.mark.parametrize(
    ("failed", "goes_on"), [((10, 40, 160), True), ((160, 40, 10), False)], ids=["rises", "falls"]
)
def test_a_rise_goes_on_and_a_fall_does_not(failed: Sequence[int], goes_on: bool) -> None:
    units = [
        unit(1000 * window + n, Kind.MEMORY, 10 * window + 5)
        for window, count in enumerate(failed)
        for n in range(count)
    ] + [unit(n) for n in range(10_000, 14_000)]
    rates = Rates()
    for window in range(3):
        rates.learn(units, 10 * window, 10 * window + 10)
    last, before = failed[-1] / 4100, failed[-2] / 4100
    level = (last + before / 2) / 1.5
    found = rates.cohort_rate("a").probability
    assert found > 1.2 * level if goes_on else found == pytest.approx(level, rel=0.1)


def shuffled_after(units: Sequence[Unit], now: int) -> Sequence[Unit]:
    """With what comes from `now` on dealt out anew among those that are there then."""
    there = [unit for unit in units if unit.is_there(now)]
    fates = [(unit.removed, unit.failure) for unit in there]
    random.Random(7).shuffle(fates)
    fate = dict(zip([unit.gpu for unit in there], fates, strict=True))
    return [
        msgspec.structs.replace(unit, removed=fate[unit.gpu][0], failure=fate[unit.gpu][1])
        if unit.gpu in fate
        else unit
        for unit in units
        if unit.installed <= now  # who came later is the future, too
    ]


def unit(number: int, failure: Kind | None = None, removed: int | None = None, **more: str) -> Unit:
    trait = (more["trait"],) if "trait" in more else ()
    return Unit(
        gpu=f"g{number}",
        cohort=more.get("cohort", "a"),
        traits=trait,
        installed=0,
        removed=removed,
        failure=failure,
    )


def test_kinds_have_hazards_of_their_own() -> None:
    units = [unit(n, Kind.MEMORY if n < 30 else Kind.LINK, 5) for n in range(40)]
    units += [unit(n) for n in range(40, 1000)]
    rates = Rates()
    rates.learn(units, 0, 10)
    (hazard,) = rates.scores([unit(2000)])
    assert hazard.kinds[Kind.MEMORY] == pytest.approx(0.03, rel=0.1)
    assert hazard.kinds[Kind.LINK] == pytest.approx(0.01, rel=0.1)
    assert hazard.kinds[Kind.OFF_BUS] < 0.001
    assert hazard.probability == pytest.approx(sum(hazard.kinds.values()))


def test_a_trait_that_fails_more_often_scores_higher_and_the_mean_stays() -> None:
    hot = [
        unit(n, Kind.MEMORY if n < 60 else None, 5 if n < 60 else None, trait="hot")
        for n in range(500)
    ]
    cool = [unit(n, None, None, trait="cool") for n in range(500, 1000)]
    rates = Rates()
    rates.learn([*hot, *cool], 0, 10)
    there = [unit(2000, trait="hot"), unit(2001, trait="cool")]
    warm, cold = (hazard.probability for hazard in rates.scores(there))
    assert warm > 3 * cold
    assert (warm + cold) / 2 == pytest.approx(rates.cohort_rate("a").probability)


def test_a_cohort_without_a_past_has_the_rate_of_its_family() -> None:
    units = [
        unit(n, Kind.MEMORY if n < 50 else None, 5 if n < 50 else None, cohort="x/1")
        for n in range(1000)
    ]
    rates = Rates()
    rates.learn(units, 0, 10)
    assert rates.cohort_rate("x/2").probability == pytest.approx(0.034, rel=0.1)
    assert rates.cohort_rate("y").probability < 0.002


def test_before_anything_was_seen_a_score_is_small_and_not_zero() -> None:
    (hazard,) = Rates().scores([unit(1)])
    assert 0 < hazard.probability < 0.01


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.9]), st.booleans()), max_size=30))
def test_the_area_is_what_counting_every_pair_gives(pairs: list[tuple[float, bool]]) -> None:
    failed = [score for score, came in pairs if came]
    stayed = [score for score, came in pairs if not came]
    wins = sum((a > b) + (a == b) / 2 for a in failed for b in stayed)
    expected = wins / (len(failed) * len(stayed)) if failed and stayed else None
    assert area(pairs) == (None if expected is None else pytest.approx(expected))


def test_a_fleet_is_read_from_a_file() -> None:
    text = HEAD + "g1,H100/a,rack=1; slot=2,2024-01-01,2025-01-01,memory\ng2,H100/a,,2024-01-01,,\n"
    one, two = read_units(text, "fleet.csv")
    assert one.traits == ("rack=1", "slot=2")
    assert one.failure is Kind.MEMORY
    assert one.removed == one.installed + 366
    assert two == Unit(gpu="g2", cohort="H100/a", installed=one.installed)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu,cohort\n", "gpu,cohort,traits,installed,removed,failure"),
        (HEAD, "a line for each GPU"),
        (HEAD + "g,c,,soon,,\n", "line 2"),
        (HEAD + "g,c,,2024-01-02,2024-01-01,\n", "removed not before installed"),
        (HEAD + "g,c,,2024-01-02,,memory\n", "given where something failed"),
        (HEAD + "g,c,,2024-01-02,2024-01-03,rust\n", "memory, off_bus, link, thermal_power"),
        (HEAD + "g,c\n", "line 2"),
    ],
    ids=["columns", "nobody", "day", "order", "no day", "kind", "short"],
)
def test_a_fleet_that_is_none_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_units(text, "fleet.csv")


def test_where_nothing_failed_what_cannot_be_said_is_unknown() -> None:
    units = [unit(n) for n in range(200)]
    plan = Plan(first=0, tested=10, last=30, window=10)
    quality = backtest(units, plan, learned(units, plan))
    assert quality.auc is None
    assert quality.skill is None
    assert quality.lead_days is None
    document = document_of({"learned": quality})
    assert document["predictors"][0]["by_window"][0]["calibration"] is None
    assert "unknown" in backtest_text(document)
    assert plot(document).startswith("<svg")


def test_acting_on_the_top_saves_what_it_catches_less_what_it_costs() -> None:
    units = [unit(n, Kind.MEMORY if n < 3 else None, 15 if n < 3 else None) for n in range(200)]
    plan = Plan(first=0, tested=10, last=20, window=10, failure_hours=10, drain_hours=2)
    quality = backtest(units, plan, lambda there, _: [float(u.gpu == "g1") for u in there])
    assert quality.precision == 1.0  # two in the top: g1, and g0, the first of the others
    quality = backtest(units, plan, lambda there, _: [float(u.gpu > "g5") for u in there])
    assert quality.hours_saved == -4  # two are replaced and were well
    assert quality.lead_days is None


@pytest.mark.slow
def test_the_command_compares_a_fleet_of_ones_own(tmp_path: Path) -> None:
    lines = [f"g{n},H100,slot={n % 2},2024-01-01,," for n in range(300)]
    lines += [f"f{n},H100,slot=1,2024-01-01,2025-{1 + n % 12:02}-15,off_bus" for n in range(24)]
    file = tmp_path / "fleet.csv"
    file.write_text(HEAD + "\n".join(lines) + "\n")
    picture = tmp_path / "plot.svg"
    args = ("maintenance", "backtest", "--fleet", str(file), "--days", "30", "--plot", str(picture))
    done = run_command(*args, "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["predictors"]
    assert [one["predictor"] for one in found] == ["learned", "cohort"]
    assert found[0]["windows"] > 10
    assert picture.read_text().startswith("<svg")
    done = run_command(*args[:4], "--days", "400")
    assert done.returncode == 2
    assert "fewer --days" in done.stderr
