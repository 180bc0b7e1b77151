"""Writes one attribute of sysfs; for `deviceplugin provision` alone, the daemon only reads."""

import os

from deviceplugin.errors import VendorError
from deviceplugin.files.below import open_below
from deviceplugin.host.host import Host


def write_attribute(host: Host, host_path: str, text: str) -> None:
    """Write an attribute that is there, in one call as drivers want it; raises VendorError with
    the driver's answer."""
    try:
        descriptor = open_below(str(host.root), host_path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        name = error.strerror or str(error)
        raise VendorError(f"{host_path}: {text!r} was not taken: {name}") from error
