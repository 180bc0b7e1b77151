"""Nothing of what targets log is shown."""

from collections.abc import Iterator

import pytest
import structlog

from tests.fuzz.surface import be_quiet


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    be_quiet()
    yield
    structlog.reset_defaults()
