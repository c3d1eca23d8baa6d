"""What an evaluation keeps."""

from __future__ import annotations

import re
from pathlib import Path

import tasks.models.cross_encoder
import tasks.passages
import tasks.rerank
import tasks.search
from schemas.settings import Settings
from tasks.evaluate.candidates import QUERY_SETTINGS


def test_every_setting_that_a_query_reads_is_kept() -> None:
    stages = (tasks.search, tasks.rerank, tasks.passages, tasks.models.cross_encoder)
    read = {name for stage in stages for name in re.findall(r"\bsettings\.(\w+)", Path(stage.__file__).read_text())}
    assert set(QUERY_SETTINGS) <= set(Settings.model_fields)
    assert read & set(Settings.model_fields) <= {*QUERY_SETTINGS, "store", "cache", "reranker", "embed_threads"}
