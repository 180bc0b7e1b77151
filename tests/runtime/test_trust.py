"""Authorities are taken as kubectl takes them, whichever Python this is."""

import ssl

import pytest

from deviceplugin.runtime.trust import trusting
from tests.kubernetes.stub import ACCOUNT

CA = str(ACCOUNT / "ca.crt")


def test_chain_and_name_are_checked_but_not_the_form_of_an_authority() -> None:
    context = trusting(cafile=CA)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(context.get_ca_certs()) == 1


def test_what_is_no_authority_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        trusting(cafile=f"{CA}.none")
    with pytest.raises(ssl.SSLError):  # an OSError, too; its text is OpenSSL's
        trusting(cadata="-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n")
