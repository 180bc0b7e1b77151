"""`python -m deviceplugin` and the console script."""

import sys


def main() -> None:
    """Run the command line."""
    _import_asyncio_without_openssl()
    from deviceplugin.cli import main as command_line  # noqa: PLC0415  # after the above

    command_line()


def _import_asyncio_without_openssl() -> None:
    """asyncio takes ssl as an option, and nothing here uses it: OpenSSL would cost 5 MiB.

    None in sys.modules is an import that fails (Python's reference, 5.3.1). It stands there while
    asyncio is imported and no longer, so that a third party's vendor can import ssl.
    """
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # documented
    try:
        import asyncio  # noqa: F401, PLC0415
    finally:
        del sys.modules["ssl"]


if __name__ == "__main__":
    main()
