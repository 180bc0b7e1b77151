"""NVML's recorded answers again, behind pynvml's functions, for tests without a GPU."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pynvml
from msgspec import Struct, field

from deviceplugin.testing.hardware.nvml_record import argument_text, call_text

# Asked of a pair in the order of UUIDs, which redaction changes.
_SYMMETRIC = frozenset({"nvmlDeviceGetTopologyCommonAncestor"})


class Handle(Struct, frozen=True):
    """What a recorded handle is now."""

    name: str


class ReplayedNvml(Struct):
    """pynvml's functions over `answers` of an NvmlRecorder. A call that was not recorded answers
    as an older driver would, FUNCTION_NOT_FOUND, and is noted in `unknown`."""

    answers: Mapping[str, Any]
    unknown: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        """pynvml's own for what is not a function of NVML: structures, numbers, errors."""
        if name.startswith("nvml") and callable(getattr(pynvml, name, None)):
            return partial(self._call, name)
        return getattr(pynvml, name)

    def _call(self, name: str, *arguments: Any) -> Any:
        said = [_argument(argument) for argument in arguments]
        call = call_text(name, said)
        recorded = self.answers.get(call)
        if recorded is None and name in _SYMMETRIC:
            recorded = self.answers.get(call_text(name, said[::-1]))
        if recorded is None:
            self.unknown.append(call)
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        if "error" in recorded:
            raise pynvml.NVMLError(recorded["error"])
        targets = [argument._obj for argument in arguments if hasattr(argument, "_obj")]  # noqa: SLF001
        for target, filled in zip(targets, recorded.get("filled", ()), strict=True):
            _fill(target, filled)
        return _value(recorded["answer"])


def _argument(value: Any) -> str:
    if hasattr(value, "_obj"):
        return f"&{type(value._obj).__name__}"  # noqa: SLF001  # byref() has no other way in
    return argument_text(value, lambda v: v.name if isinstance(v, Handle) else None)


def _fill(target: Any, filled: Any) -> None:
    """The plain numbers of a structure that the caller made."""
    for name, value in filled.get("struct", {}).items():
        if isinstance(value, int):
            setattr(target, name, value)


def _value(recorded: Any) -> Any:
    if not isinstance(recorded, dict):
        return recorded
    ((kind, value),) = recorded.items()
    return _KINDS[kind](value)


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "bytes": lambda value: value.encode("latin-1"),
    "float": float,
    "handle": Handle,
    "list": lambda value: [_value(item) for item in value],
    "struct": lambda value: SimpleNamespace(**{name: _value(v) for name, v in value.items()}),
    "unknown": lambda _: None,
}
