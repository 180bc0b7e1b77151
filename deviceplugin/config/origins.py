"""Where a setting comes from: a flag, else a variable of the environment, else the file."""

import re
from collections.abc import Iterable, Iterator, Mapping

from deviceplugin.config.config import Setting
from deviceplugin.config.schema import Raw
from deviceplugin.errors import ConfigError

PREFIX = "DEVICEPLUGIN_"
# Of a Service with this name in its namespace every container gets variables (kubelet,
# "environment variables" of Services); those are nobody's spelling mistakes.
_OF_A_SERVICE = re.compile(r"\w*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


def variable_of(name: str) -> str:
    """The variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def given_settings(
    flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> dict[str, Setting]:
    """The settings that flags and variables give, of those that `flags` names."""
    found = {}
    for name, flag in flags.items():
        variable = variable_of(name)
        if flag is not None:
            found[name] = Setting(flag, f"--{name.replace('_', '-')}")
        elif variable in environ:
            found[name] = Setting(environ[variable], variable)
    return found


def unknown_variables(environ: Mapping[str, str], names: Iterable[str]) -> list[ConfigError]:
    """An error for each variable with our prefix that no setting has."""
    known = sorted(map(variable_of, names))
    return [
        ConfigError(variable, environ[variable], _instead(variable, known))
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and variable not in known
        and not _is_of_a_service(variable, environ[variable])
    ]


def _is_of_a_service(variable: str, value: str) -> bool:
    if _OF_A_SERVICE.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))


def _instead(variable: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # not a part of a `run` that works

    near = difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"a known variable: {hint}known are {', '.join(known)}"


def idle_places(raw: Raw, in_force: Mapping[str, object]) -> Iterator[str]:
    """Keys that were settings of a file once, where it is not what is in force."""
    for name, value in in_force.items():
        if name in raw and str(raw[name]) != setting_text(value):
            flag = f"--{name.replace('_', '-')} or {variable_of(name)}"
            yield f"{name}: no file sets it, so {str(raw[name])[:80]!r} is not used: give {flag}"


def setting_text(value: object) -> str:
    """A setting as a flag or a variable gives it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)
