"""What a scan finds: adds, edits, deletes, renames, copies, touches, and what it must not follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import BadSource, DeleteGuard
from schemas.records import FileState
from tasks.scan import KnownDocument, Plan, SeenFiles, scan

PARSER, FINGERPRINT = "p1", "p1+c1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    for name in ("a.md", "b.md", "c.md", "d.md"):
        (root / name).write_text(f"text of {name}")
        os.utime(root / name, ns=(10**18, 10**18))
    return root


class Index:
    """Scans `folder` as a store that remembers what it was given would."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        store.mkdir()
        self.known: list[KnownDocument] = []

    def scan(self, *, parser: str = PARSER, fingerprint: str = FINGERPRINT, share: float = 1.0) -> Plan:
        seen = SeenFiles(self.store)
        plan = scan(
            [str(self.folder)], self.known, seen, parser=parser, fingerprint=fingerprint, max_delete_share=share
        )
        seen.save()
        return plan

    def index(self, plan: Plan) -> None:
        new = [*plan.to_parse, *(state for _, state in plan.carried)]
        gone = {*plan.replaced, *(row.uri for row in plan.obsolete)}
        self.known = [row for row in self.known if row.uri not in gone] + [known(state) for state in new]


def known(state: FileState, *, quarantined: bool = False, fingerprint: str = FINGERPRINT) -> KnownDocument:
    doc_id = f"{state.uri}@{state.content_hash}"
    return KnownDocument(doc_id, state.uri, state.source, state.path, state.content_hash, fingerprint, quarantined)


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Index:
    index = Index(folder, tmp_path / "store")
    index.index(index.scan())
    return index


def counts(plan: Plan) -> dict[str, int]:
    names = ("added", "changed", "renamed", "copied", "deleted", "unchanged", "still_quarantined")
    return {name: getattr(plan, name) for name in names if getattr(plan, name)}


def test_first_scan_adds_everything(folder: Path, tmp_path: Path) -> None:
    assert counts(Index(folder, tmp_path / "store").scan()) == {"added": 4}


def test_second_scan_finds_nothing_to_do(index: Index) -> None:
    plan = index.scan()
    assert counts(plan) == {"unchanged": 4}
    assert plan.empty


def test_edit_rename_copy_and_delete_are_told_apart(index: Index, folder: Path) -> None:
    (folder / "a.md").write_text("edited")
    (folder / "b.md").rename(folder / "b2.md")
    (folder / "c-copy.md").write_bytes((folder / "c.md").read_bytes())
    (folder / "d.md").unlink()
    plan = index.scan()
    assert counts(plan) == {"changed": 1, "renamed": 1, "copied": 1, "deleted": 1, "unchanged": 1}
    assert [Path(state.path).name for state in plan.to_parse] == ["a.md"]
    assert sorted(Path(row.path).name for row in plan.obsolete) == ["b.md", "d.md"]


def test_touched_file_is_unchanged(index: Index, folder: Path) -> None:
    os.utime(folder / "a.md")
    assert counts(index.scan()) == {"unchanged": 4}


def test_file_with_known_size_and_mtime_is_not_read_again(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("tasks.scan.sha256", lambda path: read.append(path) or "x")
    index.scan()
    assert read == []


def test_rename_to_another_suffix_is_parsed_anew(index: Index, folder: Path) -> None:
    (folder / "a.md").rename(folder / "a.txt")
    assert counts(index.scan()) == {"added": 1, "deleted": 1, "unchanged": 3}


def test_changed_chunker_reprocesses_indexed_files_only(index: Index, folder: Path) -> None:
    first, *rest = index.known
    failed = KnownDocument(**{**vars(first), "quarantined": True, "fingerprint": PARSER})
    index.known = [failed, *rest]
    assert counts(index.scan(fingerprint="p1+c2")) == {"changed": 3, "still_quarantined": 1}
    assert counts(index.scan(parser="p2", fingerprint="p2+c1")) == {"changed": 4}


def test_file_that_returns_to_its_good_version_leaves_quarantine(index: Index, folder: Path) -> None:
    good = index.known[0]
    failed = KnownDocument(
        **{**vars(good), "doc_id": "q", "content_hash": "other", "quarantined": True, "fingerprint": PARSER}
    )
    index.known.append(failed)
    plan = index.scan()
    assert [row.doc_id for row in plan.obsolete] == ["q"]


def test_documents_of_other_sources_are_left_alone(index: Index, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.md").write_text("x")
    plan = scan(
        [str(other)], index.known, SeenFiles(index.store), parser=PARSER, fingerprint=FINGERPRINT, max_delete_share=0.3
    )
    assert counts(plan) == {"added": 1}


def test_large_deletion_stops_and_says_how_to_go_on(index: Index, folder: Path) -> None:
    (folder / "a.md").unlink()
    assert counts(index.scan(share=0.3)) == {"deleted": 1, "unchanged": 3}
    (folder / "b.md").unlink()
    with pytest.raises(DeleteGuard, match=r"2 of 4 .*--allow-deletes"):
        index.scan(share=0.3)


def test_emptied_folder_is_not_taken_for_a_mass_deletion(index: Index, folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DeleteGuard, match="unmounted disk"):
        index.scan(share=0.3)


@pytest.mark.parametrize("source", ["missing", "*.nothing"], ids=["missing-folder", "glob-without-match"])
def test_missing_source_is_one_clear_error(tmp_path: Path, source: str) -> None:
    with pytest.raises(BadSource, match="check the path"):
        scan([str(tmp_path / source)], [], SeenFiles(tmp_path), parser="p", fingerprint="f", max_delete_share=0.3)


def test_empty_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match="holds no files"):
        scan([str(tmp_path / "empty")], [], SeenFiles(tmp_path), parser="p", fingerprint="f", max_delete_share=0.3)


def test_hidden_files_and_links_that_leave_the_source_are_skipped(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "loop").symlink_to(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "config.md").write_text("x")
    os.mkfifo(folder / "pipe.md")
    assert counts(Index(folder, tmp_path / "store").scan()) == {"added": 4}


def test_glob_and_single_file_are_sources(folder: Path, tmp_path: Path) -> None:
    (folder / "note.txt").write_text("n")
    for source, expected in ((str(folder / "*.md"), 4), (str(folder / "note.txt"), 1)):
        plan = scan([source], [], SeenFiles(tmp_path), parser="p", fingerprint="f", max_delete_share=0.3)
        assert plan.added == expected


def test_damaged_memory_of_seen_files_only_costs_reading(index: Index) -> None:
    (index.store / "seen.parquet").write_bytes(b"garbage")
    assert counts(index.scan()) == {"unchanged": 4}
