"""A bill adds up, and each part of it is what it is called."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from deviceplugin.cost.bill import Bill, Biller
from deviceplugin.cost.files import intensities
from deviceplugin.cost.history import Cell, History, Readings
from deviceplugin.cost.pieces import Part
from deviceplugin.cost.section import CostsSection, midnight
from tests.cost.drawn import TABLE, histories
from tests.cost.examples import H100, HOUR, PRICE, START, cell, costs, device, grant, history
from tests.cost.examples import partition as part_of

BERLIN = ZoneInfo("Europe/Berlin")


def parts(bill: Bill) -> Mapping[str, Any]:
    return {part.value: pytest.approx(bill.of(part)) for part in Part if bill.of(part)}


def billed(found: History, section: CostsSection | None = None) -> Bill:
    return Biller(section or costs(), intensities()).bill(found)


def test_a_gpu_that_works_is_used_and_one_that_nobody_has_is_unallocated() -> None:
    bill = billed(history(cell(grant()), cell(hour=1)))
    assert parts(bill) == {"used": 3.0, "unallocated": 3.0}
    assert bill.total == pytest.approx(6.0)


def test_what_a_container_has_and_does_not_use_is_allocated_idle() -> None:
    assert parts(billed(history(cell(grant(active=0.009))))) == {"allocated-idle": 3.0}


def test_activity_that_nothing_measured_is_used_and_told_apart() -> None:
    (line,) = billed(history(cell(grant(active=None)))).lines
    assert (line.part, line.measured) == (Part.USED, False)


def test_a_slice_costs_its_share_and_the_rest_is_free() -> None:
    found = history(cell(grant("a", 0.25), grant("b", 0.25, active=0.0)))
    assert parts(billed(found)) == {"used": 0.75, "allocated-idle": 0.75, "unallocated": 1.5}


def test_a_free_part_that_is_too_small_for_what_is_asked_is_stranded() -> None:
    """Of three containers two ask for more than the 0.3 that is left."""
    found = history(cell(grant("a", 0.7)), cell(grant("b", 0.6), grant("c", 0.2), hour=1))
    (first,) = (one for one in billed(found).lines if one.start == START and one.part == "stranded")
    assert first.amount == pytest.approx(3 * 0.3 * 2 / 3)


def test_what_an_unhealthy_gpu_has_free_is_stranded() -> None:
    assert parts(billed(history(cell(healthy=False)))) == {"stranded": 3.0}


def test_partitions_cost_by_their_memory_and_what_is_in_none_is_stranded() -> None:
    devices = (device(), part_of("MIG-1", 40), part_of("MIG-2", 20))
    found = history(cell(), cell(grant(), of="MIG-1"), cell(of="MIG-2"), devices=devices)
    assert parts(billed(found)) == {"used": 1.5, "unallocated": 0.75, "stranded": 0.75}


def test_partitions_whose_memory_nobody_tells_cost_alike() -> None:
    devices = (device(), *(part_of(name, 1, memory_bytes=None) for name in ("X", "Y")))
    found = history(cell(grant(), of="X"), cell(of="Y"), devices=devices)
    assert parts(billed(found)) == {"used": 1.5, "unallocated": 1.5}


def test_more_shares_than_a_gpu_has_are_no_more_than_the_gpu() -> None:
    bill = billed(history(cell(grant("a", 0.8), grant("b", 0.8))))
    assert parts(bill) == {"used": 3.0}


def test_a_price_holds_from_one_day_to_another_where_the_days_are_counted() -> None:
    """2 March in Berlin begins at 23:00 of 1 March in UTC."""
    table = [PRICE | {"valid_until": "2026-03-03"}, PRICE | {"hourly": 6.0}]
    section = costs(time_zone="Europe/Berlin", prices=table)
    bill = billed(history(cell(grant(), hour=22, hours=2)), section)
    assert [line.amount for line in bill.lines] == pytest.approx([3.0, 6.0])
    assert bill.lines[1].start == midnight("2026-03-03", BERLIN)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_has_as_many_hours_as_its_clock(day: str, hours: int) -> None:
    begin = midnight(day, BERLIN)
    long = Cell(device="GPU-0", start=begin - HOUR, seconds=30 * HOUR)
    bill = billed(history(long), costs(time_zone="Europe/Berlin"))
    of_day = [
        line.gpu_hours
        for line in bill.lines
        if datetime.fromtimestamp(line.start, BERLIN).date().isoformat() == day
    ]
    assert math.fsum(of_day) == pytest.approx(hours)


def test_what_has_no_price_is_in_no_part_and_is_told() -> None:
    section = costs(prices=[PRICE | {"model": "*A100*"}])
    bill = billed(history(cell(grant())), section)
    assert (bill.lines, bill.total, bill.unpriced) == ((), 0.0, {H100: 1.0})


@pytest.mark.parametrize(
    ("price", "fits"),
    [
        ({"vendor": "nvidia"}, True),
        ({"vendor": "amd"}, False),
        ({"model": "*h100*"}, True),
        ({"lifecycle": "spot"}, True),
        ({"lifecycle": "reserved"}, False),
        ({"partition": "1g.10gb"}, False),
        ({"valid_from": "2026-04-01"}, False),
    ],
)
def test_a_price_is_for_what_it_names(price: dict[str, str], *, fits: bool) -> None:
    section = costs(prices=[PRICE | price], nodes=[{"match": "n*", "lifecycle": "spot"}])
    assert bool(billed(history(cell()), section).lines) is fits


def test_hardware_that_was_bought_costs_what_it_loses_and_what_it_takes() -> None:
    owned = {"capex": 35064, "residual": "10%", "life_years": 4, "opex_hourly": 0.1}
    price = {"source": "invoice", "dated": "2026-01-01", "owned": owned}
    energy = {"tariff_kwh": 0.2, "pue": 1.5}
    section = costs(prices=[price | {"energy": energy}], country="DEU")
    read = Readings(energy_joules=0.5 * 3.6e6)
    (line,) = billed(history(cell(grant(), readings=read)), section).lines
    assert line.amount == pytest.approx(0.9 + 0.1 + 0.5 * 0.2 * 1.5)
    assert line.kg_co2 == pytest.approx(0.5 * 1.5 * 0.38095)


def test_energy_is_that_of_the_counter_then_of_the_power_then_of_the_price() -> None:
    section = costs(prices=[PRICE | {"energy": {"tariff_kwh": 1.0, "watts": 500}}])
    kwh = [
        billed(history(cell(readings=read)), section).lines[0].kwh
        for read in (
            Readings(energy_joules=3.6e5, power_watts=200.0),
            Readings(power_watts=200.0),
            Readings(),
        )
    ]
    assert kwh == pytest.approx([0.1, 0.2, 0.5])


def test_energy_that_is_paid_and_that_nothing_tells_is_told_to_be_missing() -> None:
    section = costs(prices=[PRICE | {"energy": {"tariff_kwh": 1.0}}])
    bill = billed(history(cell()), section)
    assert (bill.total, bill.unmetered, bill.lines[0].kwh) == (3.0, 1.0, None)


def paid(found: History, section: CostsSection) -> float:
    """The bill, computed minute by minute: what some device of a GPU was there for, its price."""
    total = 0.0
    for root, cells in found.by_root().items():
        minutes: dict[float, list[Cell]] = {}
        for one in cells:
            for minute in range(round(one.seconds / 60)):
                minutes.setdefault(one.start + 60 * minute, []).append(one)
        for moment, live in minutes.items():
            day = datetime.fromtimestamp(moment, section.zone).date().isoformat()
            vendor = found.devices[root].vendor
            if vendor == "amd":
                total += 1.5 / 60
            elif vendor == "nvidia" and day < "2026-10-25":
                total += (2.0 if day < "2026-03-29" else 4.0) / 60
            elif vendor == "nvidia":
                total += (1.0 + 0.3 * watts_of(live, root) / 1000) / 60
    return total


def watts_of(live: list[Cell], root: str) -> float:
    own = [one.readings.power_watts for one in live if one.device == root]
    others = [one.readings.power_watts for one in live if one.device != root]
    for found in (own, others):
        if found and None not in found:
            return sum(filter(None, found))
    return 100.0


@given(histories())
@settings(max_examples=200, deadline=None)
def test_the_four_parts_are_the_bill(found: History) -> None:
    section = costs(time_zone="Europe/Berlin", prices=TABLE)
    bill = billed(found, section)
    expected = paid(found, section)
    assert bill.total == pytest.approx(expected, rel=1e-6)
    assert math.fsum(bill.of(part) for part in Part) == pytest.approx(expected, rel=1e-3)
    assert all(line.amount >= 0 for line in bill.lines)
