"""Folders, files and globs of this machine.

A source that is restricted to `places` gives what a listing of all of it would give at or below them, by the same walk,
and without looking elsewhere. What changes behind the target of a link changes the link's document too, so that each
link that was met is among the places.
"""

from __future__ import annotations

import copy
import logging
import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pathspec

from schemas.errors import BadSource, SourceUnreachable
from schemas.settings import Settings
from tasks.sources.found import Found, Selection, at_or_below, hidden, topmost, within

logger = logging.getLogger(__name__)

Ignores = tuple[tuple[str, pathspec.GitIgnoreSpec], ...]  # folder and the .gitignore in it, outermost first
Tree = dict[str, Any]  # names below a folder, each with the Tree below it, or None for all that is there


class LocalSource:
    """A folder, a file or a glob."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises BadSource where there is no such thing."""
        self.name = self.absolute(name)
        self.unread: list[str] = []
        self.places: frozenset[str] | None = None
        if next(_matches(self.name), None) is None:
            raise BadSource(f"no folder, file or glob matches {name}; check the path")
        self.is_folder = Path(self.name).is_dir()
        self.root = root_of(self.name)
        self.identity = identity(self.root)  # of the folder that was opened
        self._selection = Selection(settings)
        self._gitignore = settings.gitignore and self.is_folder
        self._links: set[str] = set()  # shared by its restrictions, which come upon new ones
        self._real_root, store = os.path.realpath(self.root), os.path.realpath(settings.store)
        if within(self._real_root, store):
            raise BadSource(f"{name} lies in the store itself; name a folder of documents")
        # a store inside its source is no document, and each publish would be another change
        inside = os.path.relpath(store, self._real_root) if within(store, self._real_root) else None
        self.store = None if inside is None else os.path.join(self.root, inside)  # noqa: PTH118

    @staticmethod
    def absolute(name: str) -> str:
        """The absolute path, links kept."""
        return os.path.abspath(Path(name).expanduser())  # noqa: PTH100 resolve() would follow links

    def changed(self, paths: Collection[str]) -> LocalSource | None:
        """The part of it that changes at or below `paths` concern: the whole where its root is among them."""
        restricted = copy.copy(self)
        restricted.unread = []
        ignoring = ((path.rpartition("/")[0] if path.endswith("/.gitignore") else path) for path in paths)
        touched = set(ignoring if self._gitignore else paths)
        if at_or_below(self.root, touched) or self.name in touched:
            return restricted
        touched = {path for path in touched if within(path, self.root)}
        if self.is_folder:
            seen = {path for path in touched if not hidden(os.path.relpath(path, self.root))}
        else:
            seen = touched if is_glob(self.name) else set()
        if not seen and not (touched and self._links):  # links may lead to what is hidden
            return None
        restricted.places = topmost(seen | self._links)
        return restricted

    def files(self) -> Iterator[Found]:
        """Regular files; links only where they stay in the source.

        Raises SourceUnreachable where the source went away meanwhile, or another disk or folder is in its place: what
        was not found is not deleted then.
        """
        if self.places is None:
            self._links.clear()
        if self.is_folder:
            yield from self._walk()
        else:
            for path in self._listed():
                if self._stays(path) and (found := _found(path)):
                    yield found
        if self.identity is None or identity(self.root) != self.identity:
            raise SourceUnreachable(
                f"{self.name} went away, or another took its place, while it was listed; nothing of it changes"
            )

    def _walk(self) -> Iterator[Found]:
        tree = None if self.places is None else _tree(self.places, self.name)
        folders: list[tuple[str, Ignores, Tree | None]] = [(self.name, (), tree)]
        while folders:
            folder, ignores, only = folders.pop()
            try:
                listing: Iterable[os.DirEntry[str] | _Entry] = (
                    os.scandir(folder) if only is None else _entries(folder, only)
                )
                entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                logger.warning("cannot list a folder, its documents stay as they are: %s", error)
                self.unread.append(folder)
                continue
            if self._gitignore:
                ignores = (*ignores, *_gitignore(folder))
            below = []
            for entry in entries:
                if entry.name.startswith(".") or entry.path == self.store:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not _ignored(f"{entry.path}/", ignores):
                        below.append((entry.path, ignores, only and only[entry.name]))
                elif self._wants(entry.path, ignores) and (found := _found(entry.path)):
                    yield found
            folders += reversed(below)

    def _wants(self, path: str, ignores: Ignores) -> bool:
        wanted = not _ignored(path, ignores) and self._selection.wants(os.path.relpath(path, self.name))
        return wanted and self._stays(path)

    def _listed(self) -> Iterator[str]:
        """The paths of a file or a glob; as in a folder, links to folders are not followed."""
        if self.places is None:
            paths = sorted(_matches(self.name))
        else:
            pattern = Path(self.name).parts
            paths = [
                path for place in sorted(self.places) for path in _below(place) if _fits(Path(path).parts, pattern)
            ]
        real: dict[str, str] = {}
        for path in paths:
            folder = os.path.dirname(path)  # noqa: PTH120
            if folder not in real:
                real[folder] = os.path.relpath(os.path.realpath(folder), self._real_root)
            if real[folder] == os.path.relpath(folder, self.root) and not (self.store and within(path, self.store)):
                yield path

    def _stays(self, path: str) -> bool:
        """Whether a path leads to no file outside the source, where it is a link; the link is remembered."""
        if not os.path.islink(path):  # noqa: PTH114
            return True
        self._links.add(path)
        return path == self.name or within(os.path.realpath(path), self._real_root)


def is_glob(name: str) -> bool:
    """Whether a source is named by a pattern: wildcards where there is no file of that very name."""
    return any(c in name for c in "*?[") and not Path(name).exists()


def root_of(name: str) -> str:
    """The folder in which changes of a source happen: itself, a file's, or a glob's up to the first wildcard."""
    if is_glob(name):
        return name[: min(name.find(c) for c in "*?[" if c in name)].rpartition("/")[0] or "/"
    return name if not Path(name).is_file() else os.path.dirname(name)  # noqa: PTH120


def identity(folder: str) -> tuple[int, int] | None:
    """Device and inode of a folder, which an unmounted disk changes; None where there is none."""
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _matches(name: str) -> Iterator[str]:
    path = Path(name)
    if path.exists():
        return iter([name])
    if not is_glob(name):
        return iter(())
    return map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether pathlib's glob of `pattern` finds `path`; both in parts."""
    if not pattern:
        return not path
    if pattern == ("**",) and sys.version_info < (3, 13):  # folders only
        return False
    if pattern[0] == "**":
        return any(_fits(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def _below(place: str) -> Iterator[str]:
    """A path, and all files below it where it is a folder."""
    yield place
    if os.path.islink(place):  # noqa: PTH114
        return
    for folder, _, names in os.walk(place):
        yield from (os.path.join(folder, name) for name in sorted(names))  # noqa: PTH118


def _tree(places: frozenset[str], root: str) -> Tree:
    """The way from `root` to each of `places`, of which none lies below another."""
    tree: Tree = {}
    for place in places:
        *folders, last = os.path.relpath(place, root).split("/")
        node = tree
        for name in folders:
            node = node.setdefault(name, {})
        node[last] = None
    return tree


@dataclass(frozen=True)
class _Entry:
    """What os.scandir would tell of one name."""

    name: str
    path: str
    mode: int

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return stat.S_ISDIR(self.mode)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


def _entries(folder: str, names: Collection[str]) -> Iterator[_Entry]:
    """Those of `names` that are in `folder`. Raises OSError where that cannot be told."""
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118
        try:
            yield _Entry(name, path, os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue


def _found(path: str) -> Found | None:
    """None for what is no regular file, such as a pipe or a link to nowhere, or is gone since it was listed."""
    try:
        status = os.stat(path)  # noqa: PTH116 a Path takes as long again
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(Path(path).as_uri(), path, status.st_size, status.st_mtime_ns)


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
