"""Modules that are there for everybody and cost nothing until something of them is used.

`importlib.util.LazyLoader` is meant for this, but in CPython 3.11 its modules load at the next
`import` of them, which asks them for `__spec__`.
"""

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LOADING = threading.RLock()


class _AtFirstUse(ModuleType):
    """Runs its code when a name is asked for that it does not have yet (PEP 562's order)."""

    def __getattr__(self, name: str) -> Any:  # whatever a module has
        with _LOADING:  # one thread runs it; in that one, names that are not there yet are errors
            spec = self.__dict__.pop("_to_run", None)
            if spec is not None:
                _run(self, spec)
        return ModuleType.__getattribute__(self, name)


def _run(module: ModuleType, spec: ModuleSpec) -> None:
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        module.__dict__["_to_run"] = spec  # tried again at the next use
        raise
    module.__class__ = ModuleType


def load_at_first_use(name: str) -> None:
    """Let imports of the module `name` (`ssl`, `asyncio.sslproto`) cost nothing until its use.

    Nothing happens where it is loaded already, or is not there. Its package is not loaded either.
    """
    spec = None if name in sys.modules else _spec_of(name)
    if spec is None or spec.loader is None:
        return
    module = _AtFirstUse(name)
    module.__spec__, module.__loader__ = spec, spec.loader
    module.__dict__["_to_run"] = spec
    module.__package__ = spec.parent
    if spec.origin:
        module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module


def _spec_of(name: str) -> ModuleSpec | None:
    package, _, _ = name.rpartition(".")
    if not package:
        return PathFinder.find_spec(name)
    parent = _spec_of(package)
    places = parent.submodule_search_locations if parent else None
    return PathFinder.find_spec(name, places) if places else None
