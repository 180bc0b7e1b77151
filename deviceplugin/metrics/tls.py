"""TLS for the endpoint; imported only where the configuration asks for it, as it loads OpenSSL."""

import socket
import ssl

from deviceplugin.metrics.reread import Reread


class Tls:
    """Certificate and key, read again when either file changes."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = certificate, key
        self._context = Reread("certificate", (certificate, key), self._made)

    def check(self) -> None:
        """Raise DevicePluginError while there is no certificate to serve by."""
        self._context.value()

    def wrap(self, peer: socket.socket) -> socket.socket:
        """The connection, whose handshake goes on as it is read; raises OSError."""
        context = self._context.value()
        return context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            raise ValueError(f"no PEM certificate and the key to it: {error.reason}") from error
        return context


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    raise ValueError("the key needs a password, one without is expected")
