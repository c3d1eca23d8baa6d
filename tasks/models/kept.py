"""What language models answered, kept on disk: the same question is paid for once.

    <cache>/llm-answers/<SHA-256 of model, instruction, query and passages>.json    the answer as it came

A kept answer is read as strictly as a new one: at worst a damaged file is asked again. The files hold no passage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

# Some 64 MB on disks of 4 KB blocks.
MOST = 16_000
# Looked through for the least used once in so many answers, which takes some 20 ms when it is full.
EVERY = 500


class Answers:
    """The answers below a cache folder."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "llm-answers"
        self._added = 0

    @staticmethod
    def key(*asked: object) -> str:
        """Names an answer by all that it depends on."""
        return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        """The answer kept under `key`."""
        path = self._folder / f"{key}.json"
        try:
            answer = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # not there, or damaged
            return None
        with contextlib.suppress(OSError):  # it may be read and not written
            os.utime(path)
        return answer

    def put(self, key: str, answer: str) -> None:
        """Keep an answer, whole or not at all, and forget the least used of too many."""
        aside = self._folder / f"{key}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(answer, encoding="utf-8")
            aside.replace(self._folder / f"{key}.json")
            if self._added % EVERY == 0:
                self._forget()
        except OSError as error:  # a cache that may only be read: asked again
            logger.info("answer not kept: %s", error)
        self._added += 1

    def _forget(self) -> None:
        used = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # another process forgets too
                used.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(used)[: max(len(used) - MOST, 0)]:
            Path(path).unlink(missing_ok=True)
