"""A scan of the paths that changed ends where a scan of everything would: the same documents, whatever was done."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadSource
from schemas.records import FileState
from schemas.settings import Settings
from tasks.scan import KnownDocument, Plan, SeenFiles, scan
from tasks.sources.found import Source, at_or_below
from tasks.sources.local import LocalSource
from tests.test_scan import FINGERPRINT, PARSER, Listed, known
from tests.watch.operations import Operation, done, operations


def planned(source: Source, rows: list[KnownDocument], store: Path) -> Plan:
    """What a scan of `source` plans that remembers no file and deletes however many."""
    return scan(
        [source],
        Listed(rows),
        SeenFiles(store, remembered=False),
        parser=PARSER,
        fingerprint=FINGERPRINT,
        max_delete_share=1.0,
        max_bytes=1_000_000,
    )


def after(plan: Plan, rows: list[KnownDocument]) -> list[KnownDocument]:
    """What is known after `plan` was followed."""
    new: list[FileState] = [*plan.to_parse, *(state for _, state in plan.carried)]
    gone = {*plan.replaced, *(row.uri for row in plan.obsolete)}
    return [row for row in rows if row.uri not in gone] + [known(state) for state in new]


def contents(rows: list[KnownDocument]) -> dict[str, str]:
    assert len({row.uri for row in rows}) == len(rows)
    return {row.path: row.content_hash for row in rows}


def everything(source: Source, store: Path) -> dict[str, str]:
    try:
        return contents(after(planned(source, [], store), []))
    except BadSource:  # holds no files
        return {}


@pytest.mark.parametrize("pattern", ["", "**/*.md", "*/a.*", "*/e/?.md"], ids=["folder", "all", "below", "deep"])
@settings(max_examples=20, deadline=None)
@given(batches=st.lists(st.lists(operations, max_size=4), max_size=6))
def test_following_changes_equals_looking_at_everything(pattern: str, batches: list[list[Operation]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "docs"), Path(folder, "store")
        for name in ("a.md", "d/a.md", "d/e/b.md", "d/e/a.md"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
        Path(folder, "o.md").write_text("outside")
        store.mkdir()
        configured = Settings(store=store, exclude=("b.md",))
        source = LocalSource(str(root / pattern), configured)
        rows = after(planned(source, [], store), [])
        for batch in batches:
            told = {str(path) for operation in batch for path in done(operation, root)}
            part = source.changed(told)
            try:
                if part is not None:
                    rows = after(planned(part, rows, store), rows)
            except BadSource:
                assert rows == []
            fresh = everything(LocalSource(str(root), configured) if not pattern else source, store)
            assert contents(rows) == fresh


@settings(max_examples=20, deadline=None)
@given(made=st.lists(operations, max_size=15), places=st.sets(st.sampled_from(["a.md", "d", "d/e", "d/e/a.md", "f"])))
def test_listing_of_places_is_that_part_of_the_whole_listing(made: list[Operation], places: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "docs")
        (root / "d").mkdir(parents=True)
        for operation in made:
            done(operation, root)
        whole = LocalSource(str(root), Settings(store=Path(folder, "store")))
        listed = list(whole.files())
        part = whole.changed({str(root / place) for place in places})
        if part is None:
            assert not places
            return
        assert part.places is not None
        assert list(part.files()) == [found for found in listed if at_or_below(found.path, part.places)]


def test_store_inside_a_source_is_neither_listed_nor_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "index" / "manifests").mkdir(parents=True)
    (tmp_path / "index" / "manifests" / "1.json").write_text("{}")
    for name in (str(tmp_path), str(tmp_path / "**" / "*.*")):
        source = LocalSource(name, Settings(store=tmp_path / "index"))
        assert [Path(found.path).name for found in source.files()] == ["a.md"]
        part = source.changed({str(tmp_path / "index" / "manifests" / "1.json")})
        assert part is None or list(part.files()) == []
    with pytest.raises(BadSource, match="in the store itself"):
        LocalSource(str(tmp_path / "index" / "manifests"), Settings(store=tmp_path / "index"))
