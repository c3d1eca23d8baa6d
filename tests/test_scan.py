"""What a scan finds: adds, edits, deletes, renames, copies, touches, and what it must not follow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadSource, DeleteGuard
from schemas.records import FileState
from schemas.settings import Settings
from tasks.scan import KnownDocument, Plan, SeenFiles, scan
from tasks.sources import open_sources
from tasks.sources.found import within

PARSER, FINGERPRINT = "p1", "p1+c1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    for name in ("a.md", "b.md", "c.md", "d.md"):
        (root / name).write_text(f"text of {name}")
        os.utime(root / name, ns=(10**18, 10**18))
    return root


@dataclass
class Listed:
    """Known documents as a list, which is what LiveDocuments must equal."""

    rows: list[KnownDocument]

    def all(self) -> list[KnownDocument]:
        return self.rows

    def near(self, places: Collection[str], content_hashes: Collection[str]) -> list[KnownDocument]:
        below = [row for row in self.rows if any(within(row.path, place) for place in places)]
        return below + [row for row in self.rows if row not in below and row.content_hash in content_hashes]

    def count(self, source: str) -> int:
        return len({row.uri for row in self.rows if row.source == source or within(row.path, source)})


def scan_of(
    source: str,
    known: list[KnownDocument],
    seen: SeenFiles,
    *,
    parser: str = PARSER,
    fingerprint: str = FINGERPRINT,
    share: float = 0.3,
    max_bytes: int = 1_000_000,
    **settings: Any,
) -> Plan:
    """What a scan of one source plans."""
    return scan(
        open_sources([source], Settings(**settings)),
        Listed(known),
        seen,
        parser=parser,
        fingerprint=fingerprint,
        max_delete_share=share,
        max_bytes=max_bytes,
    )


class Index:
    """Scans `folder` as a store that remembers what it was given would."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        store.mkdir()
        self.known: list[KnownDocument] = []

    def scan(
        self, *, parser: str = PARSER, fingerprint: str = FINGERPRINT, share: float = 1.0, **settings: Any
    ) -> Plan:
        seen = SeenFiles(self.store)
        plan = scan_of(
            str(self.folder), self.known, seen, parser=parser, fingerprint=fingerprint, share=share, **settings
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
    failed = KnownDocument(**{**asdict(first), "quarantined": True, "fingerprint": PARSER})
    index.known = [failed, *rest]
    assert counts(index.scan(fingerprint="p1+c2")) == {"changed": 3, "still_quarantined": 1}
    assert counts(index.scan(parser="p2", fingerprint="p2+c1")) == {"changed": 4}


def test_file_that_returns_to_its_good_version_leaves_quarantine(index: Index, folder: Path) -> None:
    good = index.known[0]
    failed = KnownDocument(
        **{**asdict(good), "doc_id": "q", "content_hash": "other", "quarantined": True, "fingerprint": PARSER}
    )
    index.known.append(failed)
    plan = index.scan()
    assert [row.doc_id for row in plan.obsolete] == ["q"]


def test_documents_of_other_sources_are_left_alone(index: Index, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.md").write_text("x")
    plan = scan_of(str(other), index.known, SeenFiles(index.store))
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
        scan_of(str(tmp_path / source), [], SeenFiles(tmp_path))


def test_empty_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match="holds no files"):
        scan_of(str(tmp_path / "empty"), [], SeenFiles(tmp_path))


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
        plan = scan_of(source, [], SeenFiles(tmp_path))
        assert plan.added == expected


def test_damaged_memory_of_seen_files_only_costs_reading(index: Index) -> None:
    (index.store / "seen.parquet").write_bytes(b"garbage")
    assert counts(index.scan()) == {"unchanged": 4}


def names(plan: Plan) -> list[str]:
    return sorted(Path(state.path).name for state in plan.to_parse)


def test_gitignore_is_respected_as_git_does(folder: Path, tmp_path: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n/build/\nb.md\n!keep.log\n")
    for name in ("x.log", "keep.log", "build/made.md", "sub/build/kept.md", "sub/b.md", "sub/c.log", "sub/d.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "sub" / ".gitignore").write_text("!b.md\n*.tmp\n")
    index = Index(folder, tmp_path / "store")
    git = subprocess.run(
        ["sh", "-c", "git init -q && git add . && git ls-files"], cwd=folder, capture_output=True, text=True, check=True
    )
    tracked = sorted(Path(line).name for line in git.stdout.split() if not Path(line).name.startswith("."))
    assert names(index.scan()) == tracked == ["a.md", "b.md", "c.md", "d.md", "keep.log", "kept.md"]
    assert len(names(index.scan(gitignore=False))) == 11


def test_include_and_exclude_are_patterns_below_the_source(folder: Path, tmp_path: Path) -> None:
    for name in ("guide/a.txt", "guide/old/z.md", "guide/y.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    index = Index(folder, tmp_path / "store")
    assert names(index.scan(include=("*.md",), exclude=("old/",))) == ["a.md", "b.md", "c.md", "d.md", "y.md"]
    assert names(index.scan(include=("guide/**/*.md",))) == ["y.md", "z.md"]
    with pytest.raises(BadSource, match="include and exclude"):
        index.scan(include=("*.pdf",))


def test_file_over_the_limit_is_never_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "huge.md").open("wb") as f:
        f.truncate(2_000_000)
    read: list[str] = []
    monkeypatch.setattr("tasks.scan.sha256", lambda path: read.append(path.name) or "x")
    assert "huge.md" in names(Index(folder, tmp_path / "store").scan())
    assert read == ["a.md", "b.md", "c.md", "d.md"]


def test_folder_that_cannot_be_listed_is_not_taken_for_deleted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "x.md").write_text("x")
    index = Index(folder, tmp_path / "store")
    index.index(index.scan())
    real = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("tasks.sources.local.os.scandir", refuse)
    (folder / "a.md").unlink()
    assert counts(index.scan()) == {"deleted": 1, "unchanged": 3}
    monkeypatch.setattr("tasks.sources.local.os.scandir", lambda path: (_ for _ in ()).throw(PermissionError(path)))
    with pytest.raises(BadSource, match="permissions"):
        scan_of(str(folder), [], SeenFiles(tmp_path))


def test_file_that_vanishes_during_the_scan_is_not_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.scan import sha256

    def vanish(path: Path) -> str:
        if path.name == "b.md":
            path.unlink()
        return sha256(path)

    monkeypatch.setattr("tasks.scan.sha256", vanish)
    assert names(Index(folder, tmp_path / "store").scan()) == ["a.md", "c.md", "d.md"]


def test_deep_folders_and_loops_of_links_end(folder: Path, tmp_path: Path) -> None:
    (folder / "one").symlink_to(folder / "two")
    (folder / "two").symlink_to(folder / "one")
    (folder / "self.md").symlink_to("self.md")
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(1_200):  # too long for one path
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        os.chdir(here)
        assert names(Index(folder, tmp_path / "store").scan()) == ["a.md", "b.md", "c.md", "d.md"]
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", folder / "d"], check=True)  # too deep for Python's rmtree
