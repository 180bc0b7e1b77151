"""What the store tells of GPUs that may fail: signs, and a probability where daemons tell one. It
needs a fleet's past of failures (`maintenance backtest`); pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.metrics.reply import Series

Answers = Mapping[str, Sequence[Series]]
Document = dict[str, Any]
DAY_S = 86400.0
_GPU = "deviceplugin_gpu_"
_BY = "uuid, node, instance"
# A value for each day, at its end. XID 79: the GPU has fallen off the bus.
SIGNS: Mapping[str, str] = {
    "remap_failed": f"max by ({_BY}) (max_over_time({_GPU}row_remap_failed[1d]))",
    "no_spares": f'max by ({_BY}) (max_over_time({_GPU}row_banks{{spare="none"}}[1d]))',
    "off_bus": f'max by ({_BY}) (increase({_GPU}xid_errors_total{{code="79"}}[1d]))',
    "uncorrected": (f'max by ({_BY}) (increase({_GPU}ecc_errors_total{{kind="uncorrected"}}[1d]))'),
    "remapped": f'max by ({_BY}) (increase({_GPU}remapped_rows_total{{kind="uncorrected"}}[1d]))',
    "unhealthy": (
        "max by (device, node, instance)"
        ' (avg_over_time(deviceplugin_device_condition{condition="unhealthy"}[1d]))'
    ),
    "likely": (
        "max by (device, node, instance) (last_over_time(deviceplugin_failure_relative_risk[1d]))"
    ),
    "probability": (
        "max by (device, window_days, calibrated)"
        " (last_over_time(deviceplugin_failure_probability[1d]))"
    ),
}
# By weight: the first three are what `maintenance show` calls certain.
_WORDS: Mapping[str, str] = {
    "remap_failed": "a row of its memory could not be replaced",
    "no_spares": "a bank of its memory has no spare row",
    "off_bus": "it fell off the bus {:.0f} times (XID 79)",
    "likely": "it fails {:.1f} times as often as the fleet, by the past of such GPUs",
    "unhealthy": "{:.1f} days Unhealthy",
    "uncorrected": "{:.0f} memory errors that were not corrected",
    "remapped": "{:.0f} rows replaced for such errors",
}
CERTAIN = ("remap_failed", "no_spares", "off_bus")
REPEATED = 2
LIKELY = 5.0  # times the fleet's rate


def risk_document(answers: Answers, days: int) -> Document:
    """The GPUs with a sign, those with a certain one first; `known` are the signs of which the
    store has data at all."""
    found: dict[str, Document] = {}
    for sign in _WORDS:
        for one in answers.get(sign, ()):
            if (amount := _amount(sign, one)) > 0:
                device = one.labels.get("uuid") or one.labels.get("device", "")
                node = one.labels.get("node") or one.labels.get("instance", "")
                row = found.setdefault(device, {"device": device, "node": node, "signs": {}})
                row["signs"][sign] = max(amount, row["signs"].get(sign, 0.0))
    told = dict(_probabilities(answers.get("probability", ())))
    rows = [
        row | {"certain": _certain(row["signs"]), "probability": told.get(device)}
        for device, row in found.items()
    ]
    rows.sort(key=lambda row: (-row["certain"], -len(row["signs"]), row["node"], row["device"]))
    known = [sign for sign in _WORDS if answers.get(sign)]
    return {"days": days, "gpus": rows, "known": known}


def _amount(sign: str, one: Series) -> float:
    """What lasts is as it is now; what is counted is the sum of all days."""
    if sign in ("remap_failed", "no_spares", "likely"):
        newest = _newest(one)
        return newest if sign != "likely" or newest >= LIKELY else 0.0
    return round(sum(one.values.values()), 3)


def _newest(one: Series) -> float:
    return one.values[max(one.values)] if one.values else 0.0


def _probabilities(found: Sequence[Series]) -> Iterator[tuple[str, Document]]:
    for one in found:
        told = {name: one.labels.get(name, "") for name in ("window_days", "calibrated")}
        yield one.labels.get("device", ""), told | {"value": _newest(one)}


def _certain(signs: Mapping[str, float]) -> bool:
    return any(
        signs.get(sign, 0.0) >= (REPEATED if sign == "off_bus" else 1) - 0.5 for sign in CERTAIN
    )


def words_of(row: Document) -> Iterator[str]:
    """The signs of a GPU for people, the weightiest first."""
    for sign, words in _WORDS.items():
        if sign in row["signs"]:
            yield words.format(row["signs"][sign])
    if told := row["probability"]:
        yield (
            f"{100 * told['value']:.1f} % in {told['window_days']} days"
            f" (calibrated: {told['calibrated']})"
        )


def missing_words(document: Document) -> Sequence[str]:
    """The signs of which there is no data."""
    return [sign.replace("_", " ") for sign in _WORDS if sign not in document["known"]]
