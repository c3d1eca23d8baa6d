"""Globs of a filter against Python's own, and what cannot be a filter."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadFilter
from schemas.records import Filter
from tasks.store.filters import matching_chunks
from tasks.store.reader import Reader, newest
from tests.store.parts import Corpus

NAMES = ["a.md", "b.md", "ab/c.md", "ab/[c].md", "ab/é.md", "ab/-^.md", "a\\b", "ab/a*c", "a" * 120, "ab/c\nd", "x.MD"]
PARTS = [
    "*",
    "?",
    "[ab]",
    "[!ab]",
    "[a-c]",
    "[]-]",
    "[^-]",
    "[[]",
    "[",
    "a",
    "b",
    ".md",
    "/",
    "ab",
    "é",
    "-",
    "^",
    "{2}",
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    store = tmp_path_factory.mktemp("filters")
    Corpus(store).publish({name: ["text"] for name in NAMES})
    return newest(store)


def matched(reader: Reader, paths: Sequence[str]) -> set[str]:
    rows = matching_chunks(reader, Filter(paths=tuple(paths))).rows.column("row").to_pylist()
    documents = {row["first_chunk"]: row["path"] for row in reader.documents().to_pylist()}
    return {documents[row] for row in rows}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("".join), min_size=1, max_size=2))
def test_globs_match_as_pythons_do(reader: Reader, globs: list[str]) -> None:
    anchored = [glob if glob.startswith(("/", "*")) else f"*/{glob}" for glob in globs]
    # Python's takes [^-] for a set of two, DuckDB's for what is not in it; ours is Python's
    expected = {f"/{name}" for name in NAMES if any(fnmatch.fnmatchcase(f"/{name}", glob) for glob in anchored)}
    assert matched(reader, globs) == expected


def test_backslash_takes_the_next_character_literally(reader: Reader) -> None:
    assert matched(reader, [r"ab/a\*c"]) == {"/ab/a*c"}
    assert matched(reader, [r"a\\b"]) == {"/a\\b"}


def test_glob_of_many_wildcards_takes_no_longer_than_another(reader: Reader) -> None:
    """DuckDB's GLOB does not come back from this one."""
    assert matched(reader, ["*?" * 60 + "*b", "*a" * 300]) == set()
    assert matched(reader, ["*a" * 119]) == {f"/{'a' * 120}"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Filter(paths=("[z-a]",)), "bad character range z-a"),
        (Filter(modified_after=datetime(1, 1, 1)), "cannot be compared"),
        (Filter(modified_after=datetime(2026, 2, 1), modified_before=datetime(2026, 1, 1)), "exchange the two"),
    ],
)
def test_filter_that_cannot_be_meant_is_refused(reader: Reader, wanted: Filter, said: str) -> None:
    with pytest.raises(BadFilter, match=said):
        matching_chunks(reader, wanted)
