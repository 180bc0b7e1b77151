"""Advice as people and programs are shown it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deviceplugin.advice.values import Advice, Change, Saving
from deviceplugin.runtime.tables import table

Document = dict[str, Any]


def advice_document(found: Sequence[Advice], currency: str, days: float) -> Document:
    """All advice as one document; amounts are of the days of the history, not of a month."""
    return {
        "days": round(days, 2),
        "currency": currency,
        "advice": [_one(one) for one in found],
    }


def _one(one: Advice) -> Document:
    return {
        "id": one.id,
        "kind": one.kind,
        "subject": one.subject,
        "text": one.text,
        "saving": saving_document(one.saving),
        "evidence": dict(one.evidence),
        "change": None if one.change is None else _given(one.change),
        "patch_of": one.patch_of or None,
        "patch": dict(one.patch) or None,
    }


def saving_document(saving: Saving | None) -> Document | None:
    """None where nothing is claimed."""
    return None if saving is None else dict(msgspec.to_builtins(saving))


def _given(change: Change) -> Document:
    """Without what every change has by itself."""
    plain = msgspec.to_builtins(Change(kind=change.kind))
    kept = msgspec.to_builtins(change).items()
    return {"kind": change.kind} | {key: value for key, value in kept if value != plain[key]}


def advice_text(document: Document) -> str:
    """The document for terminals."""
    rows = [
        (
            one["id"],
            one["kind"],
            one["subject"],
            *_amounts(one["saving"]),
        )
        for one in document["advice"]
    ]
    if not rows:
        return f"Nothing was found in {document['days']} days of history\n"
    head = ("ID", "KIND", "SUBJECT", "GPU HOURS", "FREED", "PAID LESS")
    lines = [f"{one['id']}: {one['text']}" for one in document["advice"]]
    told = (
        f"Savings are those of a replay of {document['days']} days, in {document['currency']}."
        " What is freed is paid until GPUs are given back. `deviceplugin fleet replay` computes"
        " each again."
    )
    return "\n\n".join((table(head, rows), "\n".join(lines), told)) + "\n"


def _amounts(saving: Document | None) -> tuple[str, str, str]:
    if saving is None:
        return "", "", ""
    return (
        f"{saving['gpu_hours']:,.1f}",
        f"{saving['freed']:,.2f}",
        f"{saving['paid_less']:,.2f}",
    )


def replay_text(document: Document) -> str:
    """What one change saves."""
    saving = document["saving"]
    rows = [(name, f"{saving[name]}") for name in ("gpu_hours", "freed", "paid_less", "kwh")]
    return table(("SAVING", document["currency"]), rows) + "\n"


def targets_text(document: Document) -> str:
    """Targets and changes for terminals."""
    targets = [
        (one["target"], _percent(one["wanted"]), _percent(one["measured"]), one["state"])
        for one in document["targets"]
    ]
    changes = [
        (
            one["id"],
            one["kind"],
            one["subject"],
            one["state"],
            *("-" if one[key] is None else f"{one[key]:,.2f}" for key in _DAILY),
        )
        for one in document["changes"]
    ]
    shown = [table(("TARGET", "WANTED", "MEASURED", "STATE"), targets)] if targets else []
    if changes:
        head = ("ID", "KIND", "SUBJECT", "STATE", "EXPECTED A DAY", "MEASURED A DAY")
        shown.append(table(head, changes))
    if not shown:
        return "No targets are given (cost_optimization.targets), and nothing is recorded\n"
    told = "What was measured after a change came after it, not by it alone."
    return "\n\n".join((*shown, told)) + "\n"


_DAILY = ("expected_per_day", "measured_per_day")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
