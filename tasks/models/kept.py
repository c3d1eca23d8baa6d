"""What took long to find out, kept on disk for the next time: a file each, the least used forgotten first.

    <folder>/<SHA-256 of all that it depends on>

It can be deleted at any time, and is read with care: at worst something is found out again.
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

# Looked through for the least used once in so many, which takes some 20 ms with 16,000 files.
EVERY = 500
# Of what may be kept, so much is left then: else the next look would have to forget again.
LEFT = 0.9


class Kept:
    """What is kept in a folder, `megabytes` of it at most, some more for a short while; nothing where they are 0."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._folder = folder
        self._most = megabytes * 2**20
        self._added = 0

    @staticmethod
    def key(*of: object) -> str:
        """Names a value by all that it depends on."""
        return hashlib.sha256(json.dumps(of, ensure_ascii=False).encode()).hexdigest()

    def size(self, key: str) -> int | None:
        """Bytes of what is kept under `key`; None where nothing is."""
        try:
            return (self._folder / key).stat().st_size if self._most else None
        except OSError:
            return None

    def get(self, key: str) -> bytes | None:
        """What is kept under `key`."""
        if not self._most:
            return None
        path = self._folder / key
        try:
            value = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # it may be read and not written
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value, whole or not at all, and forget the least used of too many."""
        if not self._most:
            return
        aside = self._folder / f"{key}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(value)
            aside.replace(self._folder / key)
            if self._added % EVERY == 0:
                self._forget()
        except OSError as error:  # a cache that may only be read, or a full disk: found out again
            logger.info("not kept: %s", error)
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        self._added += 1

    def _forget(self) -> None:
        used = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # another process forgets too
                stat = entry.stat()
                used.append((stat.st_mtime_ns, stat.st_blocks * 512, entry.path))
        size = sum(taken for _, taken, _ in used)
        if size <= self._most:
            return
        for _, taken, path in sorted(used):
            if size <= self._most * LEFT:
                break
            Path(path).unlink(missing_ok=True)
            size -= taken
