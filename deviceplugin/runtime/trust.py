"""Whom an HTTPS client of this program believes; OpenSSL is 4 MiB, so only clients import it."""

import ssl


def trusting(cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Believes these authorities, by default the system's; raises OSError for what is none.

    Chain, name and dates are checked. From Python 3.13 on the default also refuses authorities
    without the extensions that RFC 5280 demands: clusters have such ones, and `kubectl` and the
    kubelet, being written in Go, take them.
    """
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
