"""The settings file that a user starts from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from schemas.settings import Settings


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_line_with_its_comment_sign_removed_is_the_default() -> None:
    defaults = Settings()
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    written = Path("headrace.toml")
    assert Settings() == defaults  # all of it is commented out
    live = re.sub(r"^# (\w+ = )", r"\1", written.read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"^(\w+) = ", live, flags=re.MULTILINE)) == set(Settings.model_fields)
    written.write_text(live)
    assert Settings() == defaults


def test_a_file_that_is_there_is_kept_unless_forced() -> None:
    Path("headrace.toml").write_text("pool = 7\n")
    refused = CliRunner().invoke(app, ["init"])
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert Settings().pool == 7
    assert CliRunner().invoke(app, ["init", "--force"]).exit_code == 0
    assert Settings().pool == Settings.model_fields["pool"].default
