"""`python -m deviceplugin` and the console script."""

from deviceplugin.runtime.lazy import load_at_first_use


def main() -> None:
    """Run the command line."""
    # asyncio imports both at its start: OpenSSL would cost 4 MiB in a process that may never speak
    # TLS (decision 12).
    for name in ("ssl", "asyncio.sslproto"):
        load_at_first_use(name)
    from deviceplugin.cli import main as command_line  # noqa: PLC0415  # after the above

    command_line()


if __name__ == "__main__":
    main()
