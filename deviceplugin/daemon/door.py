"""The endpoint's door as the configuration asks for it; what it does not ask for is not loaded."""

from deviceplugin.errors import ConfigError
from deviceplugin.metrics.door import Access, Door, LockedDoor
from deviceplugin.metrics.local import LocalDoor, is_local
from deviceplugin.metrics.reread import check_regular
from deviceplugin.metrics.section import MetricsSection


def door_of(section: MetricsSection, address: tuple[str, int] | None = None) -> Door:
    """Raises DevicePluginError while there is no certificate: nothing is served in clear then.

    On loopback `/metrics` is for everybody while it names no pods: a proxy that passes the name
    on by which it was asked goes on working.
    """
    if section.certificate_file is None or section.key_file is None:
        open_paths = () if section.pods else ("/metrics",)
        return LocalDoor(open_paths) if is_local(address) else Door()
    from deviceplugin.metrics.tls import Tls  # noqa: PLC0415

    tls = Tls(section.certificate_file, section.key_file)
    tls.check()
    return LockedDoor(tls.wrap, _access(section) if section.authenticates else None)


def _access(section: MetricsSection) -> Access:
    from deviceplugin.metrics.access import Reviewed, TokenFile, either  # noqa: PLC0415

    ways: list[Access] = []
    if section.token_file is not None:
        ways.append(TokenFile(section.token_file))
    if section.token_review:
        from deviceplugin.kubernetes.api import Api, in_cluster  # noqa: PLC0415
        from deviceplugin.kubernetes.review import review  # noqa: PLC0415

        # Looked up at each question: without an API server the tokens of the file are still good.
        ways.append(Reviewed(lambda token, path: review(Api(in_cluster()), token, path)))
    return either(ways)


def check_files(section: MetricsSection) -> None:
    """Raise ConfigError for a file that is not there, before the endpoint is given up for it."""
    for key in ("certificate_file", "key_file", "token_file"):
        path = getattr(section, key)
        if path is None:
            continue
        try:
            check_regular(path)
        except (OSError, ValueError) as error:
            expected = "a file that this process can read: mount it first"
            raise ConfigError(f"metrics.{key}", path, expected) from error
