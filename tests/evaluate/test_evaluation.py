"""What an evaluation keeps."""

from __future__ import annotations

import re
from pathlib import Path

import tasks.search
from schemas.settings import Settings
from tasks.evaluate.candidates import QUERY_SETTINGS


def test_every_setting_that_a_query_reads_is_kept() -> None:
    read = set(re.findall(r"\bsettings\.(\w+)", Path(tasks.search.__file__).read_text()))
    assert set(QUERY_SETTINGS) <= set(Settings.model_fields)
    assert read & set(Settings.model_fields) <= {*QUERY_SETTINGS, "store"}
