"""Paths of the host that a file of the configuration names: held to places that are root's; pure.

A ConfigMap has other writers than the pod's template. What a path in it names is run, loaded or
mounted as root, so it grants nothing beyond the folders where drivers are by custom; any other
folder is named in the template.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from deviceplugin.config.config import Setting
from deviceplugin.errors import ConfigError
from deviceplugin.schema import Places

MAX_PATH = 1024
NEVER = ("/dev", "/proc", "/sys")  # anybody has files there
_ELSEWHERE = (
    "another folder is named by --trusted-dirs or DEVICEPLUGIN_TRUSTED_DIRS, never by a file"
)


def place_errors(
    sections: Mapping[str, object], trusted: Sequence[str], host_root: str
) -> Iterator[ConfigError]:
    """An error for each path that does not lie where its section says, or below `trusted`."""
    for name, section in sections.items():
        yield from _errors(section, name, trusted, host_root)


def parse_trusted(setting: Setting) -> tuple[str, ...]:
    """Folders, comma-separated: absolute, and none where anybody has files; raises ConfigError."""
    folders = [part.strip() for part in str(setting.value).split(",") if part.strip()]
    for folder in folders:
        if path_problem(folder) or not _parts(folder):
            text = f"absolute paths of folders, comma-separated, none below {', '.join(NEVER)}"
            raise ConfigError(setting.label, folder, text)
    return tuple(folders)


def path_problem(path: str) -> str | None:
    """Why nothing that is run, loaded or mounted may lie at `path`, None where it may."""
    if not path.startswith("/") or ".." in path.split("/"):
        return "an absolute path without `..`"
    if not path.isprintable() or len(path) > MAX_PATH:
        return f"a path of at most {MAX_PATH} printable characters"
    if any(_is_below(path, folder) for folder in NEVER):
        return f"a path that is not below {', '.join(NEVER)}"
    return None


def _errors(
    value: object, path: str, trusted: Sequence[str], host_root: str
) -> Iterator[ConfigError]:
    if isinstance(value, tuple | list):
        for at, item in enumerate(value):
            yield from _errors(item, f"{path}[{at}]", trusted, host_root)
    if not isinstance(value, msgspec.Struct):
        return
    places: Mapping[str, Places] = getattr(value, "HOST_PATHS", {})
    for field in value.__struct_fields__:
        part = getattr(value, field)
        if field not in places:
            yield from _errors(part, f"{path}.{field}", trusted, host_root)
            continue
        texts = [part] if isinstance(part, str) else part or ()
        for at, text in enumerate(texts):
            key = f"{path}.{field}" if isinstance(part, str) else f"{path}.{field}[{at}]"
            if problem := _problem(text, places[field], trusted, host_root):
                yield ConfigError(key, text, problem)


def _problem(text: str, places: Places, trusted: Sequence[str], host_root: str) -> str | None:
    if text in places.exactly:
        return None
    # As this process sees it, or as the host does.
    seen = _is_below(text, host_root)
    below = "/" + "/".join(_parts(text)[len(_parts(host_root)) :]) if seen else text
    if problem := path_problem(text) or path_problem(below):
        return problem
    if places.names and text.rpartition("/")[2] not in places.names:
        return f"the path of {' or '.join(places.names)}"
    if any(_is_below(below, folder) for folder in (*places.folders, *trusted)):
        return None
    return f"a path below {', '.join(places.folders)} ({_ELSEWHERE})"


def _is_below(path: str, folder: str) -> bool:
    """Or the folder itself."""
    parts = _parts(folder)
    return _parts(path)[: len(parts)] == parts


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
