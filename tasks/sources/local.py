"""Folders, files and globs of this machine."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pathspec

from schemas.errors import BadSource
from schemas.settings import Settings
from tasks.sources.found import Found, Selection

logger = logging.getLogger(__name__)

Ignores = tuple[tuple[str, pathspec.GitIgnoreSpec], ...]  # folder and the .gitignore in it, outermost first


class LocalSource:
    """A folder, a file or a glob."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises BadSource where there is no such thing."""
        self.name = self.absolute(name)
        self.unread: list[str] = []
        self._paths = _matches(self.name)
        if not self._paths:
            raise BadSource(f"no folder, file or glob matches {name}; check the path")
        self._selection = Selection(settings)
        self._gitignore = settings.gitignore

    @staticmethod
    def absolute(name: str) -> str:
        """The absolute path, links kept."""
        return os.path.abspath(Path(name).expanduser())  # noqa: PTH100 resolve() would follow links

    def files(self) -> Iterator[Found]:
        """Regular files; links only where they stay in the source."""
        if Path(self.name).is_dir():
            return self._walk()
        return (found for path in self._paths if (found := _found(path)))

    def _walk(self) -> Iterator[Found]:
        real_root = os.path.realpath(self.name)
        folders: list[tuple[str, Ignores]] = [(self.name, ())]
        while folders:
            folder, ignores = folders.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                logger.warning("cannot list a folder, its documents stay as they are: %s", error)
                self.unread.append(folder)
                continue
            if self._gitignore:
                ignores = (*ignores, *_gitignore(folder))
            below = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not _ignored(f"{entry.path}/", ignores):
                        below.append((entry.path, ignores))
                elif not _ignored(entry.path, ignores) and self._selection.wants(
                    os.path.relpath(entry.path, self.name)
                ):
                    if entry.is_symlink() and not _within(os.path.realpath(entry.path), real_root):
                        continue
                    if found := _found(entry.path):
                        yield found
            folders += reversed(below)


def _matches(name: str) -> list[str]:
    path = Path(name)
    if path.exists():
        return [name]
    if not any(c in name for c in "*?["):
        return []
    return sorted(map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor)))))


def _found(path: str) -> Found | None:
    """None for what is no regular file, such as a pipe or a link to nowhere, or is gone since it was listed."""
    try:
        status = os.stat(path)  # noqa: PTH116 a Path takes as long again
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(Path(path).as_uri(), path, status.st_size, status.st_mtime_ns)


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _gitignore(folder: str) -> Ignores:
    try:
        lines = Path(folder, ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return ((folder, pathspec.GitIgnoreSpec.from_lines(lines)),)


def _ignored(path: str, ignores: Ignores) -> bool:
    """As git has it: the innermost .gitignore that says anything decides. A folder's path ends with a slash."""
    for folder, spec in reversed(ignores):
        said = spec.check_file(path[len(folder.rstrip("/")) + 1 :]).include
        if said is not None:
            return said
    return False
