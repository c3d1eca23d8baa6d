"""One pool of parser processes for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.settings import Settings
from tasks.parsing.pool import ParserPool


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(Settings(parse_timeout_s=30.0)) as pool:
        yield pool
