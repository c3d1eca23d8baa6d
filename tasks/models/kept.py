"""What took long to find out, kept on disk for the next time: a file each, the least used forgotten first.

    <folder>/<SHA-256 of all that it depends on>

It can be deleted at any time: then it is found out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

# Looked through for the least used once in this share of what may be kept, which takes some 80 ms with 18,000 files.
LOOK = 0.05
# Of what may be kept, so much is left then: else the next look would have to forget again.
LEFT = 0.9


class Kept:
    """What is kept in a folder, `megabytes` of it at most, or a twentieth more; nothing where they are 0."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._folder = folder
        self._most = megabytes * 2**20

    @staticmethod
    def key(*of: object) -> str:
        """Names a value by all that it depends on."""
        return hashlib.sha256(json.dumps(of, ensure_ascii=False).encode()).hexdigest()

    def has(self, key: str) -> bool:
        """Whether something is kept under `key`."""
        return bool(self._most) and (self._folder / key).exists()

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
            # by chance: no process may live long enough to count so much
            if random.random() < taken(len(value)) / (LOOK * self._most):
                self._forget()
        except OSError as error:  # a cache that may only be read, or a full disk
            logger.info("not kept: %s", error)
        finally:
            with contextlib.suppress(OSError):  # what Ctrl-C or a full disk left
                aside.unlink(missing_ok=True)

    def _forget(self) -> None:
        used = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # another process forgets too
                stat = entry.stat()
                used.append((stat.st_mtime_ns, taken(stat.st_size), entry.path))
        size = sum(of for _, of, _ in used)
        if size <= self._most:
            return
        for _, of, path in sorted(used):
            if size <= self._most * LEFT:
                break
            with contextlib.suppress(OSError):  # not a file, or somebody else's
                Path(path).unlink(missing_ok=True)
                size -= of


def taken(size: int) -> int:
    """Bytes that a file of so many takes on a disk, whose blocks mostly have 4 KiB."""
    return -(-size // 4096) * 4096
