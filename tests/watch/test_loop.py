"""A running watch: its store becomes what a refresh of everything would make, whatever happens to sources and store."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st

from flows.local import local_refresh, stage_threads
from schemas.errors import BadSource, ModelMismatch, Regression, SourceUnreachable, StoreBusy
from schemas.records import Published
from schemas.settings import Settings
from tasks.refresh import Refresher
from tasks.sources import open_sources
from tasks.store.generation import exists
from tasks.store.verify import verify
from tasks.store.writer import locked
from tasks.watch.loop import Watch
from tests.flows.test_refresh import rows
from tests.watch.operations import Operation, done, operations
from tests.watch.test_observers import eventually

MakeSettings = Callable[..., Settings]


class Running:
    """A watch in a thread of its own, and what it told."""

    def __init__(self, sources: list[str], settings: Settings) -> None:
        self.settings = settings
        self.published: list[Published] = []
        self.said: list[str] = []
        self.error: BaseException | None = None
        self.watch = Watch(sources, settings, self._submit, self.published.append, self.said.append)
        self.thread = threading.Thread(target=self._run)

    def _submit(self, *arguments: object) -> object:
        return self.stages(*arguments)  # type: ignore[operator]

    def _run(self) -> None:
        try:
            with stage_threads() as self.stages:
                self.watch.run()
        except BaseException as error:
            self.error = error

    def holds(self, *texts: str, without: tuple[str, ...] = ()) -> bool:
        """Whether the store has chunks with these words, and none with others."""
        assert self.error is None, self.error
        if not exists(self.settings.store):
            return False
        there = "\n".join(row[3] for row in rows(self.settings.store))
        return all(text in there for text in texts) and not any(text in there for text in without)

    def heard(self, text: str) -> bool:
        assert self.error is None, self.error
        return any(text in said for said in self.said)


@contextmanager
def watching(*sources: Path | str, settings: Settings) -> Iterator[Running]:
    running = Running([str(source) for source in sources], settings)
    running.thread.start()
    try:
        yield running
    finally:
        running.watch.stop()
        running.thread.join()


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("one", "two", "three", "four"):
        (folder / f"{name}.md").write_text(f"# Page {name}\n\nText {name} about certificates.\n")
    return folder


@configured(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(st.lists(operations, min_size=1, max_size=5), min_size=1, max_size=3))
def test_store_ends_as_one_that_a_full_refresh_made(
    batches: list[list[Operation]], followed: tuple[Path, Running, Refresher, Settings]
) -> None:
    root, running, oracle, other = followed
    for batch in batches:
        for operation in batch:
            done(operation, root)
        oracle.refresh(open_sources([str(root)], other))
        expected = rows(other.store)
        eventually(lambda expected=expected: running.error or rows(running.settings.store) == expected)
        assert running.error is None


@pytest.fixture(scope="module")
def followed(
    tmp_path_factory: pytest.TempPathFactory, model_cache: Path
) -> Iterator[tuple[Path, Running, Refresher, Settings]]:
    """A folder that is watched, and what refreshes all of it into another store."""
    base = tmp_path_factory.mktemp("followed")
    root = base / "docs"
    (root / "d" / "e").mkdir(parents=True)
    (root / "keep.md").write_text("# Kept\n\nThis one is never touched.\n")
    (base / "o.md").write_text("outside")

    def settings(store: str) -> Settings:
        return Settings(store=base / store, cache=model_cache, debounce_s=0.2, max_delete_share=1.0)

    with (
        watching(root, settings=settings("store")) as running,
        stage_threads() as submit,
        Refresher(settings("other"), submit, lambda *_: None) as oracle,
    ):
        eventually(lambda: running.holds("never touched"))
        yield root, running, oracle, settings("other")
    assert verify(base / "store") == []


def test_storm_of_saves_is_few_publishes_and_its_end_is_searchable(docs: Path, make_settings: MakeSettings) -> None:
    with watching(docs, settings=make_settings()) as running:
        eventually(lambda: running.holds("Text one"))
        for number in range(250):
            (docs / "one.md").write_text(f"# Page one\n\nSaved {number} times.\n")
        eventually(lambda: running.holds("Saved 249 times"))
        assert len(running.published) < 50  # few, however busy the machine is
        (last,) = (published.summary for published in running.published[-1:])
        assert (last.changed, last.added, last.deleted) == (1, 0, 0)


def test_source_that_goes_away_keeps_its_documents_and_is_looked_at_when_it_is_back(
    docs: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    with watching(docs, settings=make_settings(debounce_s=0.2)) as running:
        eventually(lambda: running.holds("Text one"))
        docs.rename(aside)
        eventually(lambda: running.heard("is not there"))
        docs.mkdir()  # where a disk was mounted an empty folder is left
        eventually(lambda: running.heard("unmounted disk"))
        assert running.holds("Text one", "Text four")
        docs.rmdir()
        (aside / "one.md").write_text("# Page one\n\nEdited elsewhere.\n")
        aside.rename(docs)
        eventually(lambda: running.holds("Edited elsewhere", "Text four", without=("Text one",)))
        (docs / "two.md").write_text("# Page two\n\nEdited here.\n")
        eventually(lambda: running.holds("Edited here"))


def test_start_finds_what_happened_before_and_waits_for_a_source_that_the_store_knows(
    docs: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(debounce_s=0.2)
    with watching(tmp_path / "nowhere", settings=settings) as running:
        running.thread.join()
        assert isinstance(running.error, BadSource)
    local_refresh([str(docs)], settings, lambda *_: None)
    (docs / "two.md").unlink()
    (docs / "three.md").rename(docs / "drei.md")
    aside = docs.rename(tmp_path / "aside")
    with watching(docs, settings=settings) as running:
        eventually(lambda: running.heard("is not there"))
        aside.rename(docs)
        eventually(lambda: running.holds("Text three", without=("Text two",)))
        (summary,) = (published.summary for published in running.published)
        assert (summary.renamed, summary.deleted, summary.added) == (1, 1, 0)


def test_another_writer_is_waited_for(docs: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(debounce_s=0.1)
    settings.store.mkdir()
    with locked(settings.store, "lock", "busy"), watching(docs, settings=settings) as running:
        eventually(lambda: running.heard("waiting for its end"))
        assert not running.published
    with watching(docs, settings=settings) as running:
        eventually(lambda: running.holds("Text one"))


def test_failed_publish_is_tried_again_with_what_changed_meanwhile(
    docs: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError("a hiccup"), StoreBusy("a writer"), StoreBusy("a writer"), SourceUnreachable("no network")]
    refresh, left = Refresher.refresh, list(failures)

    def fail_at_first(self: Refresher, *arguments: object) -> object:
        if left:
            (docs / "late.md").write_text("# Late\n\nText late.\n")
            raise left.pop(0)
        return refresh(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Refresher, "refresh", fail_at_first)
    monkeypatch.setattr("tasks.watch.loop.LAST_RETRY_S", 0.1)
    with watching(docs, settings=make_settings(debounce_s=0.1)) as running:
        eventually(lambda: running.holds("Text one", "Text late"))
        for error in failures:
            assert len([said for said in running.said if str(error) in said]) == 1


def test_what_a_gate_refused_is_tried_again_with_the_next_change(
    docs: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh, refusals = Refresher.refresh, [Regression("worse")]

    def refuse_once(self: Refresher, *arguments: object) -> object:
        if refusals:
            raise refusals.pop()
        return refresh(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Refresher, "refresh", refuse_once)
    with watching(docs, settings=make_settings(debounce_s=0.1)) as running:
        eventually(lambda: running.heard("worse"))
        (docs / "late.md").write_text("# Late\n\nText late.\n")
        eventually(lambda: running.holds("Text one", "Text late"))
        assert len(running.published) == 1


def test_error_that_no_retry_can_help_ends_the_watch(
    docs: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ModelMismatch("another model")

    monkeypatch.setattr(Refresher, "refresh", refuse)
    with watching(docs, settings=make_settings(debounce_s=0.1)) as running:
        running.thread.join()
        assert isinstance(running.error, ModelMismatch)


def test_sources_of_other_kinds_are_followed_too(docs: Path, make_settings: MakeSettings, tmp_path: Path) -> None:
    """A glob, a file, and a folder that is polled, with the store inside it."""
    (tmp_path / "notes.txt").write_text("Text of notes.")
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "a.md").write_text("Text of more.")
    settings = make_settings(debounce_s=0.1, poll_s=0.1, store=docs / "index")
    with watching(docs, tmp_path / "more/**/*.md", tmp_path / "notes.txt", settings=settings) as running:
        eventually(lambda: running.holds("Text one", "Text of notes", "Text of more"))
        (tmp_path / "notes.txt").write_text("Notes, edited.")
        (tmp_path / "more" / "b.md").write_text("Another of more.")
        (docs / "two.md").unlink()
        eventually(lambda: running.holds("Notes, edited", "Another of more", without=("Text of notes", "Text two")))
        assert len(rows(settings.store)) == 6
        files = {Path(row[0]).suffix for row in rows(settings.store)}
        assert files == {".md", ".txt"}  # nothing of the store


def test_many_files_at_once_are_few_publishes(docs: Path, make_settings: MakeSettings) -> None:
    with watching(docs, settings=make_settings()) as running:
        eventually(lambda: running.holds("Text one"))
        for number in range(60):
            folder = docs / f"part{number % 5}"
            folder.mkdir(exist_ok=True)
            (folder / f"page{number}.md").write_text(f"# Page {number}\n\nNumber {number} of many.\n")
        eventually(lambda: len(rows(running.settings.store)) == 64)
        shutil.rmtree(docs / "part3")
        eventually(lambda: len(rows(running.settings.store)) == 52)
        assert len(running.published) < 30
        assert sum(published.summary.added for published in running.published) == 64
        assert sum(published.summary.deleted for published in running.published) == 12
