"""`python -m deviceplugin` and the console script."""

import sys

from deviceplugin.runtime import garbage
from deviceplugin.runtime.lazy import load_at_first_use

# What is imported at the start of asyncio (OpenSSL: 4 MiB in a process that may never speak TLS,
# decision 12), of protobuf (its messages in Python and as text: 0.7 MiB beside those in C) and of
# msgspec (descriptions of types), and then seldom or never used.
_SELDOM = ("ssl", "asyncio.sslproto", "google.protobuf.internal.python_message", "msgspec.inspect")


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        garbage.pause()  # until the first lists: GarbagePart
    for name in _SELDOM:
        load_at_first_use(name)
    from deviceplugin.cli import main as command_line  # noqa: PLC0415  # after the above

    command_line()


if __name__ == "__main__":
    main()
