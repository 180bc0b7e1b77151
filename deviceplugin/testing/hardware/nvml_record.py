"""NVML's answers as they come, by call; `nvml_replay` gives them again."""

import ctypes
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

_IDENTITY = re.compile("uuid|serial|guid", re.IGNORECASE)
Answers = dict[str, Any]  # JSON


class NvmlRecorder:
    """pynvml's functions and names; `answers` maps each call to its first answer, as JSON values.

    A call is `function(argument, …)`. A handle is named in order of appearance, so that the same
    handle has the same name everywhere.
    """

    def __init__(self, api: Any) -> None:  # pynvml has no types
        self._api = api
        self._handles: dict[int, str] = {}
        self.answers: Answers = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._api, name)
        if name.startswith("nvml") and callable(found):
            return partial(self._call, name, found)
        return found

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        call = call_text(name, [self._argument(argument) for argument in arguments])
        try:
            answer = function(*arguments)
        except self._api.NVMLError as error:
            self.answers.setdefault(call, {"error": error.value})
            raise
        filled = [self._value(a._obj) for a in arguments if hasattr(a, "_obj")]  # noqa: SLF001  # byref()
        out = {"filled": filled} if filled else {}
        self.answers.setdefault(call, {"answer": self._value(answer)} | out)
        return answer

    def _argument(self, value: Any) -> str:
        if hasattr(value, "_obj"):
            return f"&{type(value._obj).__name__}"  # noqa: SLF001  # byref() has no other way in
        return argument_text(value, self._handle)

    def _handle(self, value: Any) -> str | None:
        """The name of a handle, None for what is not one. A null pointer is one too."""
        if not isinstance(value, ctypes._Pointer):  # noqa: SLF001  # the class of every pointer
            return None
        address = ctypes.cast(value, ctypes.c_void_p).value or 0
        return self._handles.setdefault(address, f"handle{len(self._handles)}")

    def _value(self, value: Any) -> Any:
        """As JSON: an object has one key, which says what its value was."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, ctypes._SimpleCData):  # noqa: SLF001  # the class of every number
            return self._value(value.value)
        kind, plain = self._kind(value)
        return {kind: plain}

    def _kind(self, value: Any) -> tuple[str, Any]:
        if isinstance(value, bytes):
            return "bytes", value.decode("latin-1")
        if isinstance(value, float):
            return "float", repr(value)
        if name := self._handle(value):
            return "handle", name
        if isinstance(value, ctypes.Array | list | tuple):
            return "list", [self._value(item) for item in value]
        if isinstance(value, ctypes.Structure | ctypes.Union):
            fields = {field[0]: getattr(value, field[0]) for field in value._fields_}
            return "struct", {name: self._value(hidden(name, v)) for name, v in fields.items()}
        return "unknown", type(value).__name__


def hidden(name: str, value: Any) -> Any:
    """A hash in place of an identity that is in a structure as bytes: text is redacted later.

    Such a number is random, or long; equal ones stay equal.
    """
    raw = bytes(value) if isinstance(value, bytes | ctypes.Array) else b""
    if not _IDENTITY.search(name) or not any(raw):
        return value
    text = raw.rstrip(b"\0").decode("latin-1")
    if "uuid" in name.lower() and text.isascii() and text.isprintable():
        return value
    digest = hashlib.sha256(raw).digest()[: len(raw)]
    return digest if isinstance(value, bytes) else list(digest)


def call_text(name: str, arguments: list[str]) -> str:
    """A call as it stands in a recording."""
    return f"{name}({', '.join(arguments)})"


def argument_text(value: Any, handle: Callable[[Any], str | None]) -> str:
    """An argument as it stands in a recording; numbers of ctypes as numbers."""
    if name := handle(value):
        return name
    if isinstance(value, list | tuple):
        return "[" + ", ".join(argument_text(item, handle) for item in value) + "]"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(getattr(value, "value", value))
