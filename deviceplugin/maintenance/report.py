"""What a back-test came to, and what is known of this node's GPUs: documents, tables, and a plot as
SVG; pure."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.maintenance.backtest import Quality, Quarter
from deviceplugin.runtime.tables import table

Document = dict[str, Any]
WIDTH, PANEL, LEFT, TOP = 640, 190, 56, 28
COLOURS = ("#0b6bcb", "#c2410c", "#64748b")
_LOW, _HIGH = 0.8, 1.25  # what counts as calibrated


def document_of(found: Mapping[str, Quality]) -> Document:
    """Each predictor with its figures, whole and by landmark."""
    return {"predictors": [_predictor(name, quality) for name, quality in found.items()]}


def _predictor(name: str, quality: Quality) -> Document:
    lead = quality.lead_days
    return {
        "predictor": name,
        "auc": _rounded(quality.auc),
        "precision_top_1_percent": _rounded(quality.precision),
        "base_rate": _rounded(quality.base),
        "brier": _rounded(quality.brier, 5),
        "brier_skill": _rounded(quality.skill),
        "windows": len(quality.quarters),
        "windows_calibrated": quality.calibrated_quarters,
        "lead_days_quartiles": list(lead) if lead else None,
        "node_hours_saved": round(quality.hours_saved),
        "by_window": [_window(quarter) for quarter in quality.quarters],
    }


def _window(quarter: Quarter) -> Document:
    return {
        "day": quarter.day,
        "gpus": quarter.units,
        "failed": quarter.failed,
        "expected": round(quarter.expected, 1),
        "calibration": _rounded(quarter.calibration),
        "auc": _rounded(quarter.auc),
        "precision_top_1_percent": _rounded(quarter.precision),
        "lift": _rounded(quarter.lift, 1),
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def backtest_text(document: Document) -> str:
    """The predictors side by side."""
    rows = [
        (
            one["predictor"],
            _shown(one["auc"]),
            _percent(one["precision_top_1_percent"]),
            _shown(one["brier_skill"]),
            f"{one['windows_calibrated']} of {one['windows']}",
            _lead(one["lead_days_quartiles"]),
            str(one["node_hours_saved"]),
        )
        for one in document["predictors"]
    ]
    heads = ("PREDICTOR", "AUC", "TOP 1 %", "SKILL", "CALIBRATED", "LEAD DAYS", "HOURS SAVED")
    return table(heads, rows) + "\n"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _lead(quartiles: Sequence[float] | None) -> str:
    return "-" if quartiles is None else "/".join(f"{value:.0f}" for value in quartiles)


def maintenance_text(document: Document) -> str:
    """A line for each GPU, then what is certain of one, what precedes failures, and when work costs
    least."""
    gpus = document["gpus"]
    days = document["window_days"]
    heads = ("GPU", "CERTAIN", f"FAILS IN {days} DAYS", "CALIBRATED", "LIFE LEFT", "ALERTS")
    rows = [
        (
            one["id"],
            ", ".join(finding["finding"] for finding in one["certain"]) or "-",
            _probability(one),
            one["calibrated"],
            _life(one["remaining_life"]),
            ", ".join(one["alerts"]) or "-",
        )
        for one in gpus
    ]
    lines = [line for one in gpus for line in _lines(one)]
    lines += sorted({f"rates: {one['rates_of']}; {one['calibrated_because']}" for one in gpus})
    lines += _schedule(document["maintenance_schedule"])
    return "\n".join([table(heads, rows), *lines]) + "\n"


def _lines(one: Document) -> Iterator[str]:
    for finding in one["certain"]:
        yield f"{one['id']}: {finding['reason']}; do: {finding['action']}"
    for sign in one["evidence"]:
        ratio = max((sign["ratio"] or {}).values(), default=None)
        worth = "worth unknown" if ratio is None else f"{ratio:g} times the rate of others"
        yield f"{one['id']}: {sign['means']} ({worth})"
    if one["remaining_life"]:
        yield f"{one['id']}: {one['remaining_life']['because']}"


def _schedule(schedule: Document) -> Iterator[str]:
    for one in schedule.get("windows", ()):
        yield (
            f"work from {_time(one['start'])} to {_time(one['end'])} UTC costs"
            f" {one['gpu_hours']:g} allocated GPU-hours ({one['least']:g} to {one['most']:g} in"
            f" {one['weeks']} weeks)"
        )
    if "unknown_because" in schedule:
        yield f"when work costs least is unknown: {schedule['unknown_because']}"


def _time(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _life(life: Document | None) -> str:
    if life is None:
        return "unknown"
    high = "more" if life["high_days"] is None else f"{life['high_days']:.0f}"
    return f"{life['low_days']:.0f} to {high} days"


def _probability(one: Document) -> str:
    low, high = one["interval_80"]
    return f"{100 * one['failure_probability']:.2g} % ({100 * low:.2g} to {100 * high:.2g} %)"


def plot(document: Document) -> str:
    """Two panels over the windows: AUC, and failures expected for each that came. It has a
    background of its own, so that it can be read on a light and on a dark page."""
    drawn = [*_panel(document, ("auc", "AUC in each window", 0.5, 1.0), 0)]
    drawn += _band()
    text = "failures expected for each that came; calibrated between 0.8 and 1.25"
    drawn += _panel(document, ("calibration", text, 0.0, 2.5), 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * PANEL}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{2 * PANEL}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


_Panel = tuple[str, str, float, float]


def _panel(document: Document, panel: _Panel, number: int) -> Iterator[str]:
    key, title, low, high = panel
    yield f'<text x="{LEFT}" y="{number * PANEL + 16}">{title}</text>'
    for step in range(6):
        value = low + (high - low) * step / 5
        y = _y(value, panel, number)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - 110}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.2g}</text>'
    for index, one in enumerate(document["predictors"]):
        colour = COLOURS[index % len(COLOURS)]
        windows = one["by_window"]
        wide = (WIDTH - 110 - LEFT) / max(len(windows) - 1, 1)
        points = " ".join(
            f"{round(LEFT + wide * place, 1)},{_y(window[key], panel, number)}"
            for place, window in enumerate(windows)
            if window[key] is not None
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        y = number * PANEL + TOP + 16 * (index + 1)
        yield f'<text x="{WIDTH - 100}" y="{y}" fill="{colour}">{one["predictor"]}</text>'


def _band() -> Iterator[str]:
    panel = ("", "", 0.0, 2.5)
    top, bottom = _y(_HIGH, panel, 1), _y(_LOW, panel, 1)
    wide = WIDTH - 110 - LEFT
    yield f'<rect x="{LEFT}" y="{top}" width="{wide}" height="{bottom - top}" fill="#dcfce7"/>'


def _y(value: float, panel: _Panel, number: int) -> float:
    _, _, low, high = panel
    part = (min(max(value, low), high) - low) / (high - low)
    return round(number * PANEL + TOP + (PANEL - TOP - 16) * (1 - part), 1)
