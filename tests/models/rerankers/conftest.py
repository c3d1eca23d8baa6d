"""What the tests of rerankers on servers share: an environment without keys, and no waiting between repetitions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import stamina

from tasks.models.rerankers.access import URLS, VARIABLES
from tasks.models.rerankers.remote import ATTEMPTS


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's accounts."""
    for name in (
        *sum(VARIABLES.values(), ()),
        *URLS.values(),
        *filter(lambda name: name.startswith("AWS_"), os.environ),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """As often as for real, at once."""
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield
