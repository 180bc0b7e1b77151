"""What the commands `maintenance` read and compute: a fleet's past, and this node's history."""

import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deviceplugin.cli.frame import parse_number
from deviceplugin.config.last_good import state_dir_of
from deviceplugin.errors import ConfigError
from deviceplugin.files.reading import read_regular
from deviceplugin.maintenance.backtest import Plan, Quality, cohort_baseline, learned
from deviceplugin.maintenance.backtest import backtest as tested
from deviceplugin.maintenance.findings import Asked, Past, Seen, maintenance_document, past_of
from deviceplugin.maintenance.life import remaining_life
from deviceplugin.maintenance.node import Node, day_of, read_node
from deviceplugin.maintenance.signs import Noted, read_noted, signs_of
from deviceplugin.maintenance.units import Unit, read_units
from deviceplugin.maintenance.windows import HOUR_S, schedule
from deviceplugin.runtime.control import ControlError
from deviceplugin.simulate import fleet as simulated

Document = dict[str, Any]
MAX_FLEET_BYTES = 256 << 20
MOST_DAYS = 3650
DEFAULT_DAYS = "91"
WORK_HOURS = 2
_BEFORE = 6  # windows that are learned before the first is tested
_ENOUGH = 0.8  # of the tested windows calibrated: ten of twelve


def days_of(text: str) -> int:
    """Of a flag; raises ConfigError."""
    days = parse_number(text, "--days")
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError("--days", text, f"a number from 1 to {MOST_DAYS}")
    return days


def node_document(
    health: Document, state_dir: str | None, files: Mapping[str, str | None], days: int
) -> Document:
    """What `maintenance show` shows, computed now."""
    now = time.time()
    groups = _groups(health)
    node = _node(state_dir, groups, now)
    signs = _signs(node, groups, day_of(now))
    asked = Asked(days=days, noted=_noted(files.get("signs")), signs=signs)
    fleet = files.get("fleet")
    past = _past(fleet, asked) if fleet else None
    lives = {gpu: remaining_life(node.wear(gpu)) for gpu in node.gpus}
    seen = Seen(
        signs=signs,
        lives={gpu: life for gpu, life in lives.items() if life},
        failures=[kind for found in node.failures.values() for _, kind in found],
        years=node.years,
        schedule=schedule(node.held, int(now) // HOUR_S + 1, WORK_HOURS),
    )
    return maintenance_document(health, past, seen, days)


def signs_lines(health: Document, state_dir: str | None) -> Iterator[str]:
    """Each day of the node's history with the signs of each GPU on it, as `--signs` reads them."""
    groups = _groups(health)
    node = _node(state_dir, groups, time.time())
    yield "gpu,day,sign"
    for day in node.days():
        for gpu, found in _signs(node, groups, day).items():
            for sign in found:
                yield f"{gpu},{dt.date.fromordinal(day)},{sign}"


def _node(state_dir: str | None, groups: Sequence[Sequence[str]], now: float) -> Node:
    folder = state_dir_of({"state_dir": state_dir})
    try:
        return read_node(folder, [gpu for group in groups for gpu in group], now)
    except OSError as error:
        raise ControlError(f"the history cannot be read: {error}") from error


def _groups(health: Document) -> Sequence[Sequence[str]]:
    """The GPUs that are there, those of one product together: only they are peers."""
    groups: dict[str, list[str]] = {}
    for one in health["devices"]:
        if not one.get("parent"):
            groups.setdefault(str(one.get("product")), []).append(one["id"])
    return list(groups.values())


def _signs(node: Node, groups: Sequence[Sequence[str]], day: int) -> Mapping[str, Sequence[str]]:
    observed = node.observed(day)
    return {
        gpu: found
        for group in groups
        for gpu, found in signs_of({i: observed[i] for i in group if i in observed}).items()
    }


def _noted(name: str | None) -> Noted:
    return read_noted(_text(name, "--signs"), name) if name else Noted()


def _past(name: str, asked: Asked) -> Past:
    units, days = read_units(_text(name, "--fleet"), name), asked.days
    first, last = span = _span(units)
    calibrated = None
    if first + (_BEFORE + 1) * days <= last:
        numbers = {"days": days, "failure_hours": 0, "drain_hours": 0}
        plan = _plan(span, first + _BEFORE * days, numbers)
        quality = tested(units, plan, learned(units, plan, asked.noted))
        calibrated = quality.calibrated_quarters >= _ENOUGH * len(quality.quarters)
    return past_of(units, span, asked, calibrated)


def drawn(numbers: Mapping[str, int]) -> Mapping[str, Quality]:
    """The predictors on a drawn fleet, and what nobody can beat there."""
    made = simulated.Fleet(numbers["seed"])
    units = made.play()
    span = (0, simulated.QUARTERS * simulated.QUARTER_DAYS)
    plan = _plan(span, simulated.FIRST_TESTED * simulated.QUARTER_DAYS, numbers)
    if plan.window != simulated.QUARTER_DAYS:
        raise ConfigError("--days", numbers["days"], f"{simulated.QUARTER_DAYS} without --fleet")
    most = {"ceiling": tested(units, plan, partial(simulated.ceiling, made))}
    return _compared(units, plan, None) | most


def of_file(name: str, signs: str | None, numbers: Mapping[str, int]) -> Mapping[str, Quality]:
    """The predictors on a fleet of one's own; with `signs` also the rates without them."""
    units = read_units(_text(name, "--fleet"), name)
    first, last = _span(units)
    start = first + _BEFORE * numbers["days"]
    if start + numbers["days"] > last:
        text = f"at least {_BEFORE + 1} windows of {numbers['days']} days; fewer --days"
        raise ConfigError(name, f"{last - first} days", text)
    plan = _plan((first, last), start, numbers)
    return _compared(units, plan, _noted(signs) if signs else None)


def _compared(units: Sequence[Unit], plan: Plan, noted: Noted | None) -> dict[str, Quality]:
    found = {"learned": tested(units, plan, learned(units, plan, noted))}
    if noted is not None:
        found["no signs"] = tested(units, plan, learned(units, plan))
    return found | {"cohort": tested(units, plan, cohort_baseline(units, plan))}


def _span(units: Sequence[Unit]) -> tuple[int, int]:
    """From the first day that the file names to the last."""
    first = min(unit.installed for unit in units)
    return first, max(unit.removed or unit.installed for unit in units)


def _plan(span: tuple[int, int], start: int, numbers: Mapping[str, int]) -> Plan:
    window = numbers["days"]
    return Plan(
        first=span[0],
        tested=start,
        last=span[1] - window + 1,  # a window that is not over cannot be judged
        window=window,
        failure_hours=numbers["failure_hours"],
        drain_hours=numbers["drain_hours"],
    )


def _text(name: str, flag: str) -> str:
    expected = f"a CSV file of at most {MAX_FLEET_BYTES >> 20} MiB"
    try:
        content = read_regular(Path(name), MAX_FLEET_BYTES + 1)
        if len(content) > MAX_FLEET_BYTES:
            raise ConfigError(flag, name, expected)
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(flag, name, expected, reason=str(error)) from error
