"""The door of a daemon that listens on loopback: what it shows there is for this machine alone.

A browser here may run a page of somebody else, who lets a name of his own lead to our address (DNS
rebinding): for the browser that is then one site, and its script may read what we answer. By which
name we were asked is in the head, and no script can change that. A tunnel to us (kubectl
port-forward, ssh -L) is asked for by a name of loopback.
"""

import re
import socket
from collections.abc import Collection, Mapping

from deviceplugin.metrics.door import PLAIN, PROBES, App, Door
from deviceplugin.metrics.section import metrics_section, shows_pods
from deviceplugin.runtime.part import Response

MISDIRECTED = Response(
    "421 Misdirected Request",
    PLAIN,
    "on loopback this page is given to who asks for localhost or an address of loopback alone\n",
)
_LOCAL = re.compile(r"(localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])\.?(?::[0-9]{1,5})?", re.IGNORECASE)


class LocalDoor(Door):
    """Gives what names no pods (`open_paths`, probes) to everybody, all else to who asks for this
    machine."""

    def __init__(self, open_paths: Collection[str] = ()) -> None:
        self._open = {*open_paths, *PROBES}

    def answer(self, app: App, path: str, head: bytes, peer: socket.socket) -> Response:
        """The page, or why it is not given."""
        if path in self._open or asks_for_local(head):
            return app(path)
        return MISDIRECTED


def asks_for_local(head: bytes) -> bool:
    """Whether a request's head names this machine, or names none as HTTP/1.0 may."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    names = [value.strip() for name, _, value in lines if name.strip().lower() == b"host"]
    return all(_LOCAL.fullmatch(name.decode("latin-1")) for name in names)


def names_pods(sections: Mapping[str, object], address: tuple[str, int] | None) -> bool:
    """Whether whoever reads a page at the address may know pods: as `metrics.pods` says for series,
    and where it says nothing, those on this machine may, too."""
    if metrics_section(sections).pods is None and is_local(address):
        return True
    return shows_pods(sections)


def is_local(address: tuple[str, int] | None) -> bool:
    """Whether nobody but this machine reaches it."""
    if address is None:
        return False
    return address[0] in ("::1", "localhost") or address[0].startswith("127.")
