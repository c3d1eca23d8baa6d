"""Document rows near some places are those that looking at every row finds, however many places there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.sources.found import topmost, within
from tasks.store.lookup import FEW, count_documents, documents_near
from tasks.store.reader import Reader
from tests.store.parts import Corpus

# names that begin alike, that sort about the slash, that SQL could trip over
NAMES = [
    f"{folder}{name}"
    for folder in ("", "a/", "a-b/", "a/b/", "a's/", "ä/", "z%/")
    for name in ("a", "a-b", "a.md", "b", "b!", "b~", "it's.md", "é.md")
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    corpus = Corpus(tmp_path_factory.mktemp("lookup"))
    corpus.publish({name: [name] for name in NAMES[::2]})
    corpus.publish({name: [name] for name in NAMES[1::2]}, delete=NAMES[:8:4])
    with Reader.open(corpus.store) as reader:
        yield reader


places = st.sampled_from([*NAMES, "a", "a/b", "a-b", "a's", "z%", "z_", "nowhere", "b/a"]).map("/{}".format)


@settings(max_examples=60, deadline=None)
@example(wanted={"/a", "/a-b"}, hashes=set(), few=0)  # a hyphen sorts before the slash
@given(st.sets(places, max_size=12), st.sets(st.sampled_from(NAMES), max_size=3), st.sampled_from([0, FEW]))
def test_rows_near_places_equal_those_found_by_looking_at_each(
    reader: Reader, wanted: set[str], hashes: set[str], few: int
) -> None:
    with pytest.MonkeyPatch.context() as either_way:
        either_way.setattr("tasks.store.lookup.FEW", few)
        near = documents_near(reader, topmost(wanted), hashes, "doc_id, path, content_hash").to_pylist()
    expected = [
        row["doc_id"]
        for row in reader.documents().to_pylist()
        if row["content_hash"] in hashes or any(within(row["path"], place) for place in wanted)
    ]
    assert sorted(row["doc_id"] for row in near) == sorted(expected)


def test_documents_of_a_source_are_counted_with_those_below_it(reader: Reader) -> None:
    live = [row["path"] for row in reader.documents().to_pylist()]
    for source in ("/a", "/a/b", "/a's", "/z%", "/nowhere"):
        assert count_documents(reader, source) == sum(within(path, source) for path in live if path != source)
    assert count_documents(reader, "/") == len(live) == len(NAMES) - 2


def test_empty_store_has_none(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["a"]})
    corpus.publish({}, delete=["a"])
    with Reader.open(tmp_path) as reader:
        assert documents_near(reader, {"/a"}, {"a"}, "path, content_hash").num_rows == count_documents(reader, "/") == 0
