"""Where an API server is, as whom it is asked, and what it refuses."""

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from deviceplugin.errors import DevicePluginError
from deviceplugin.runtime.trust import trusting

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiError(DevicePluginError):
    """The API server did not do it; `status` is its HTTP status, 0 where it gave none."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 409, 429) or self.status >= 500


class TooLargeError(ApiError):
    """The answer has more bytes than are read."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a kubeconfig gives instead of a service account: PEM texts, empty without."""

    authority: bytes = b""
    token: str = ""
    token_file: str = ""  # beats `token`, as kubectl has it; read each time
    certificate: bytes = b""
    key: bytes = b""

    def bearer(self) -> str:
        """The token of this moment; empty where the certificate says who asks."""
        return Path(self.token_file).read_text().strip() if self.token_file else self.token

    def context(self) -> ssl.SSLContext:
        """Raises OSError for what is no certificate."""
        context = trusting(cadata=self.authority.decode("ascii") or None)
        if self.certificate:
            with _in_memory(self.certificate + b"\n" + self.key) as path:
                context.load_cert_chain(path)
        return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A file that is on no disk: OpenSSL takes a key from files alone."""
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Access(Struct, frozen=True, kw_only=True):
    """Where the API server is, and the files of the service account, or other credentials."""

    host: str
    port: int
    account: Path = ACCOUNT
    credentials: Credentials | None = None

    def proofs(self) -> tuple[str, ssl.SSLContext]:
        """A token, and whom to believe; both are read each time, since they are renewed."""
        if self.credentials:
            return self.credentials.bearer(), self.credentials.context()
        token = (self.account / "token").read_text().strip()
        return token, trusting(cafile=str(self.account / "ca.crt"))
