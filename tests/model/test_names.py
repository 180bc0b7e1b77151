"""Short digests: what they are must not change, sockets and files are called by them."""

import hashlib

import pytest

from deviceplugin.names import short_digest


@pytest.mark.parametrize("text", ["", "nvidia.com/gpu", "ü" * 1000])
def test_a_short_digest_is_the_start_of_the_sha_256(text: str) -> None:
    assert short_digest(text) == hashlib.sha256(text.encode()).hexdigest()[:16]
