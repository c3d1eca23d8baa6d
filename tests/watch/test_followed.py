"""Where the system gives no watches, sources are listed instead, and a person is told what to raise."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path

import pytest
from watchdog.observers import inotify_c

from schemas.settings import Settings
from tasks.watch.followed import FollowedSources
from tests.watch.test_observers import eventually


@pytest.mark.parametrize(
    ("call", "refused", "error"),
    [
        pytest.param("inotify_add_watch", b"/deep", errno.ENOSPC, id="no-watch-for-a-folder-below"),
        pytest.param("inotify_add_watch", b"/docs", errno.ENOSPC, id="no-watch-at-all"),
        pytest.param("inotify_init", b"", errno.EMFILE, id="no-instance"),
    ],
)
def test_source_that_the_system_gives_no_watch_for_is_listed(
    call: str, refused: bytes, error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(inotify_c, call)

    def refuse(*arguments: object) -> int:
        if not refused or str(arguments[1]).endswith(f"{refused.decode()}'"):
            ctypes.set_errno(error)
            return -1
        return int(real(*arguments))

    monkeypatch.setattr(inotify_c, call, refuse)
    monkeypatch.setattr("tasks.watch.followed.POLL_S", 0.05)
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").touch()
    (tmp_path / "link").symlink_to("docs")  # the kernel tells of the real path
    changed, said = set[str](), list[str]()

    def note(path: str, *, writing: bool = False, rest: float = 0.0) -> None:
        changed.add(path)

    sources = FollowedSources([str(tmp_path / "link")], Settings(store=tmp_path / "store"), note, said.append)
    try:
        sources.open(lambda _: 0)
        sources.check()
        assert [line for line in said if "fs.inotify.max_user_" in line and "sysctl" in line] == said != []
        assert "listed every 0.05 s" in sources.described()
        (tmp_path / "docs" / "deep" / "b.md").touch()
        eventually(lambda: str(tmp_path / "link" / "deep" / "b.md") in changed)
    finally:
        sources.close()
