"""The feature file of Node Feature Discovery: `<key>=<value>` lines behind one expiry time; pure.

A file above 64 KiB is ignored whole, and a key without a prefix gets one: so neither is written.
Source: NFD's documentation, "Local feature source".
"""

from collections.abc import Mapping
from datetime import UTC, datetime

NAME = "deviceplugin"
MAX_BYTES = 65536
_HEAD = "# Written by deviceplugin; what stands here is replaced.\n"


def feature_file(labels: Mapping[str, str], expires_at: float) -> tuple[str, tuple[str, ...]]:
    """The file's text, and the labels that are left out of it; `expires_at` is Unix time."""
    moment = datetime.fromtimestamp(int(expires_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text, left = f"{_HEAD}# +expiry-time={moment}\n", []
    for key, value in sorted(labels.items()):
        line = f"{key}={value}\n"
        if "/" in key and len(text) + len(line) < MAX_BYTES:
            text += line
        else:
            left.append(key)
    return text, tuple(left)
