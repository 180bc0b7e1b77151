"""A plan as people and programs are shown it; pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.provision.values import Planned
from deviceplugin.runtime.tables import table
from deviceplugin.vendor.partitions import UNBOUND, Step, Verb

Document = dict[str, Any]


def plan_document(planned: Sequence[Planned], problems: Mapping[str, str]) -> Document:
    """The plan, GPU by GPU, and why vendors could not be read."""
    return {
        "gpus": [
            {
                "id": one.gpu.id,
                "vendor": one.gpu.vendor,
                "product": one.gpu.product,
                "index": one.gpu.index,
                "address": one.gpu.address,
                "wish": one.wish,
                "state": one.state,
                "reason": one.reason or None,
                "steps": [
                    {
                        "do": step.verb.value,
                        "name": step.name or None,
                        "number": step.number,
                        "text": step_text(step),
                    }
                    for step in one.steps
                ],
            }
            for one in planned
        ],
        "problems": [{"vendor": name, "reason": text} for name, text in problems.items()],
    }


def step_text(step: Step) -> str:
    """One step in words."""
    words = {
        Verb.MIG_MODE: f"turn MIG mode {'on' if step.number else 'off'}",
        Verb.CREATE: f"make {step.name} at {step.number}",
        Verb.DESTROY: f"destroy {step.name} at {step.number}",
        Verb.COMPUTE: f"compute mode {step.was_name} to {step.name}",
        Verb.MEMORY: _memory_text(step),
        Verb.AUTOPROBE: f"drivers take new functions: {'yes' if step.number else 'no'}",
        Verb.QUOTA: f"{step.number} bytes for each of {step.name} functions",
        Verb.QUANTUM: _turn_text(step, "turns", "ms"),
        Verb.PREEMPTION: _turn_text(step, "preemption", "us"),
        Verb.DRIVER: _driver_text(step),
        Verb.FUNCTIONS: f"{step.was_number} virtual functions to {step.number}",
    }
    return words[step.verb]


def _turn_text(step: Step, what: str, unit: str) -> str:
    values = [value for value in step.name.split() if value != "0"]
    if not values:
        return f"{what} of functions without limit"
    return f"{what} of {step.number} {unit} for each of {len(values)} functions"


def _memory_text(step: Step) -> str:
    modes = Counter(one.compute for one in step.settings if one.compute)
    after = [f"{count} in {name}" for name, count in modes.items()]
    count = len(step.settings)
    return (
        f"memory mode {step.was_name} to {step.name}: the driver of {count} GPU{'s' * (count > 1)}"
        f" is loaded again{', then ' * bool(after)}{', '.join(after)}"
    )


def _driver_text(step: Step) -> str:
    drivers = Counter(step.name.split())
    parts = [f"{count} to {name}" for name, count in drivers.items() if name != UNBOUND]
    parts += [f"{drivers[UNBOUND]} to no driver"] if UNBOUND in drivers else []
    return f"functions go {', '.join(parts)}"


def plan_text(document: Document) -> str:
    """The document for terminals."""
    return "\n\n".join(_parts(document)) + "\n"


def status_text(document: Document) -> str:
    """How GPUs stand to the daemon's layouts, for terminals."""
    if not document["on"]:
        return "No partitions are declared\n"
    rows = [
        (f"{gpu['vendor']} {gpu['index']}", gpu["product"], gpu["wish"], gpu["state"])
        for gpu in document["gpus"]
    ]
    shown = [table(("GPU", "PRODUCT", "WISH", "STATE"), rows) if rows else "No GPU was read yet"]
    shown += [
        f"{gpu['vendor']} {gpu['index']} ({gpu['id']}): {gpu['reason']}"
        for gpu in document["gpus"]
        if gpu["reason"]
    ]
    shown += [document["problem"]] if document.get("problem") else []
    return "\n".join(shown) + "\n"


def _parts(document: Document) -> Iterator[str]:
    rows = [
        (f"{gpu['vendor']} {gpu['index']}", gpu["product"], gpu["wish"], gpu["state"])
        for gpu in document["gpus"]
    ]
    yield (
        table(("GPU", "PRODUCT", "WISH", "STATE"), rows) if rows else "No layout is for a GPU here"
    )
    for gpu in document["gpus"]:
        name = f"{gpu['vendor']} {gpu['index']} ({gpu['id']})"
        if gpu["reason"]:
            yield f"{name}: {gpu['reason']}"
        if gpu["steps"]:
            lines = [f"  {n}. {step['text']}" for n, step in enumerate(gpu["steps"], 1)]
            yield "\n".join((f"{name}:", *lines))
    for problem in document["problems"]:
        yield f"{problem['vendor']} could not be read: {problem['reason']}"
