"""What a source tells of a file before it is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import pathspec

from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source."""

    uri: str
    path: str  # that people see and filters match: an absolute local path, or the URI
    size: int  # bytes; -1 where the source does not say
    mtime_ns: int  # nanoseconds since the epoch; 0 where the source does not say
    version: str | None = None  # changes with the content: a remote file's ETag, or its size and time of change


class Source(Protocol):
    """A place that holds documents."""

    name: str  # stored with its documents
    unread: list[str]  # paths below which something could not be listed, known once all files are
    places: frozenset[str] | None  # it lists only what lies at or below these paths; None for everything

    def files(self) -> Iterator[Found]:
        """What it holds. Raises BadSource, SourceUnreachable."""
        ...

    def changed(self, paths: Collection[str]) -> Self | None:
        """The part of it that changes at or below `paths` concern, or None; its own name stands for all of it."""
        ...


class Selection:
    """The files of a source that the settings include, by patterns as in .gitignore, relative to the source."""

    def __init__(self, settings: Settings) -> None:
        self._include = _spec(settings.include) if settings.include else None
        self._exclude = _spec(settings.exclude)

    def wants(self, relative: str) -> bool:
        """Whether a file, by its path below the source, is wanted."""
        included = self._include is None or self._include.match_file(relative)
        return included and not self._exclude.match_file(relative)


def _spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec:
    return pathspec.GitIgnoreSpec.from_lines(patterns)


def hidden(relative: str) -> bool:
    """Whether a file, or a folder on the way to it, has a name that starts with a dot."""
    return any(part.startswith(".") for part in relative.split("/"))


def within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def at_or_below(path: str, places: Collection[str]) -> bool:
    """Whether `path` is one of `places`, best a set, or lies below one."""
    while path not in places:
        path, slash, _ = path.rpartition("/")
        if not slash:
            return "/" in places
    return True


def topmost(places: Collection[str]) -> frozenset[str]:
    """`places` without those that lie below another."""
    return frozenset(path for path in places if not at_or_below(path.rpartition("/")[0], places))
