"""`python -m deviceplugin` and the console script."""

import sys

from deviceplugin.runtime import garbage
from deviceplugin.runtime.lazy import load_at_first_use

# What others import and seldom or never use.
_SELDOM = (
    *("ssl", "asyncio.sslproto"),  # asyncio; OpenSSL is 4 MiB: decision 12
    "google.protobuf.internal.python_message",  # messages in Python, beside those in C: 0.7 MiB
    "msgspec.inspect",
    *("shutil", "tempfile"),  # ctypes.util, which NVIDIA's bindings import; bz2 and lzma with it
)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        garbage.pause()  # until the first lists: GarbagePart
    for name in _SELDOM:
        load_at_first_use(name)
    if sys.argv[1:2] == ["run"]:
        from deviceplugin import run  # noqa: PLC0415  # after the above

        if (flags := run.plain_flags(sys.argv[2:])) is not None:
            run.main(flags)
            return
    from deviceplugin.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
