"""Labels in a file, as the kubelet writes those of a pod for a downwardAPI volume: a line
`name="value"` each, the value escaped as in Go."""

import json
from collections.abc import Mapping
from pathlib import Path

from deviceplugin.files.reading import IrregularFileError, read_regular

# In the directory of the configuration, by a projected volume; and in the state directory, as the
# API server last said.
NAME = "node-labels"
MAX_BYTES = 1 << 20
MAX_VALUE = 63


class LabelsError(Exception):
    """The file is there and cannot be read."""


def read_labels(path: Path) -> Mapping[str, str]:
    """The labels of a file, none where it is absent; raises LabelsError."""
    try:
        text = read_regular(path, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):  # the latter beside a configuration of one file
        return {}
    except IrregularFileError as error:
        raise LabelsError(f"{path} is {error.kind}") from error
    except OSError as error:
        raise LabelsError(f"{path}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise LabelsError(f"{path} has more than {MAX_BYTES} bytes")
    return parse_labels(text.decode("utf-8", "replace"))


def parse_labels(text: str) -> Mapping[str, str]:
    """Name and value of each line; a line that is none is passed over, as others' labels are."""
    found = {}
    for line in text.splitlines():
        name, equals, quoted = line.partition("=")
        try:
            value = json.loads(quoted) if equals else None
        except ValueError:
            continue
        if isinstance(value, str):
            found[name.strip()] = value
    return found


def labels_text(labels: Mapping[str, str]) -> str:
    """The file's content, sorted."""
    return "".join(f"{name}={json.dumps(labels[name])}\n" for name in sorted(labels))
