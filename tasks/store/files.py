"""Files that are whole or absent: written aside, fsynced, renamed, the folder fsynced."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish_file(aside: Path, final: Path) -> None:
    """Move the finished file `aside` to `final` in the same file system, so that a crash leaves the old or the new."""
    sync(aside)
    aside.replace(final)
    sync(final.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text, encoding="utf-8")
    publish_file(aside, path)


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
