"""Scenario to the text that the C side reads: `keyword key=value key="two words"` per line."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from msgspec.structs import asdict

from tests.fakes.nvml.model import ANCESTOR_NODE, ANCESTOR_SYSTEM, Fault, Gpu, Scenario

_RECOVERY_ACTION_FIELD = 230
_REMAPPED_FIELDS = {142: "corrected", 143: "uncorrected", 144: "pending", 145: "failure"}
_NOT_ON_THE_GPU_LINE = {
    "index",
    "mig_generation",
    "pci_class",
    "numa_node",
    "local_cpulist",
    "recovery_action",
}


def render(scenario: Scenario) -> str:
    return "".join(f"{line}\n" for line in _lines(scenario))


def _lines(scenario: Scenario) -> Iterator[str]:
    yield _line(
        "system",
        driver=scenario.driver_version,
        nvml=scenario.nvml_version,
        cuda=scenario.cuda_version,
        init=scenario.init_code,
        confidential=scenario.confidential,
        devtools=scenario.devtools,
    )
    for gpu in scenario.gpus:
        yield from _gpu_lines(gpu)
    for first, second in combinations(scenario.gpus, 2):
        level = _common_ancestor(scenario, first, second)
        yield _line("topology", gpu=first.index, peer=second.index, level=level)
    for fault in scenario.faults:
        yield _fault_line(fault)


def _gpu_lines(gpu: Gpu) -> Iterator[str]:
    yield _line("gpu", gpu=gpu.index, **_plain_values(gpu, _NOT_ON_THE_GPU_LINE))
    for word, part in _parts(gpu):
        yield _line(word, gpu=gpu.index, **_plain_values(part))
    for profile in gpu.gi_profiles:
        own = {"name": f"MIG {profile.name}", "starts": ",".join(map(str, profile.starts))}
        yield _line("gi_profile", gpu=gpu.index, **_plain_values(profile) | own)
    for compute in gpu.ci_profiles:
        values = _plain_values(compute)
        yield _line("ci_profile", gpu=gpu.index, **values | {"name": f"MIG {compute.name}"})
    for number, value in _field_values(gpu).items():
        yield _line(
            "field", gpu=gpu.index, id=number, value=value, type=1 if value >> 32 == 0 else 3
        )


def _parts(gpu: Gpu) -> Iterator[tuple[str, Any]]:
    """The lines beside the GPU's own. A GPU with MIG instances does not report remapped rows."""
    single = {
        "remapped": None if gpu.mig else gpu.remapped,
        "histogram": gpu.histogram,
        "sram": gpu.sram,
        "fabric": gpu.fabric,
    }
    yield from ((word, part) for word, part in single.items() if part is not None)
    several: dict[str, tuple[Any, ...]] = {
        "ecc": gpu.ecc,
        "gpm": gpu.gpm,
        "process": gpu.processes,
        "nvlink": gpu.nvlinks,
        "mig": gpu.mig,
    }
    yield from ((word, part) for word, parts in several.items() for part in parts)


def _field_values(gpu: Gpu) -> dict[int, int]:
    values: dict[int, int] = {}
    if gpu.recovery_action is not None:
        values[_RECOVERY_ACTION_FIELD] = gpu.recovery_action
    if gpu.remapped is not None and not gpu.mig:
        remapped = _plain_values(gpu.remapped)
        values |= {number: int(remapped[name]) for number, name in _REMAPPED_FIELDS.items()}
    return values | dict(gpu.fields)


def _common_ancestor(scenario: Scenario, first: Gpu, second: Gpu) -> int:
    for pair in ((first.index, second.index), (second.index, first.index)):
        if pair in scenario.ancestors:
            return scenario.ancestors[pair]
    return ANCESTOR_NODE if first.numa_node == second.numa_node else ANCESTOR_SYSTEM


def _fault_line(fault: Fault) -> str:
    return _line(
        fault.kind,
        gpu="*" if fault.gpu is None else fault.gpu,
        function=fault.function,
        **{"except": fault.except_for},
        code=fault.code,
        ms=fault.ms,
        how=fault.how,
        bytes=fault.bytes,
        number=fault.number,
    )


def _plain_values(part: Any, skip: set[str] | None = None) -> dict[str, Any]:
    """The fields of a struct that are one number or text each."""
    values = {name: value for name, value in asdict(part).items() if name not in (skip or ())}
    return {name: value for name, value in values.items() if isinstance(value, int | str)}


def _line(word: str, **values: Any) -> str:
    pairs = [f"{key}={_value(value)}" for key, value in values.items() if value is not None]
    return " ".join([word, *pairs])


def _value(value: int | str) -> str:
    text = str(int(value)) if isinstance(value, int) else value
    if '"' in text or "\n" in text:
        raise ValueError(f"no quotes or line ends in a scenario value: {text!r}")
    return f'"{text}"' if " " in text or not text else text
