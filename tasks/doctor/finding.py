"""What a check of `headrace doctor` gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. Only `failed` means that something which the settings ask for cannot work."""

    verdict: Verdict
    detail: str  # lines
    advice: str = ""  # lines: what to do, or what could be better; a command where there is one
