"""What is kept between runs: whole, bounded, and never relied on."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.models.kept import Kept


def test_least_used_go_where_there_are_too_many(tmp_path: Path) -> None:
    values = Kept(tmp_path, 1)
    for number in range(3):
        values.put(f"{number}", bytes(300_000))
        os.utime(tmp_path / f"{number}", (number, number))
    assert values.get("0") == bytes(300_000)  # used again
    values.put("3", bytes(300_000))
    assert [values.has(f"{number}") for number in range(4)] == [True, False, True, True]
    Kept(tmp_path, 1).put("4", bytes(300_000))  # of another process
    assert [values.has(f"{number}") for number in range(5)] == [True, False, False, True, True]


def test_nothing_is_kept_or_read_where_there_is_no_room_at_all(tmp_path: Path) -> None:
    Kept(tmp_path, 1).put("key", b"value")
    nothing = Kept(tmp_path, 0)
    nothing.put("other", b"value")
    assert not nothing.has("key")
    assert nothing.get("key") is None
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    values = Kept(tmp_path / "file", 1)
    values.put("key", b"value")
    assert values.get("key") is None
    assert not values.has("key")


def test_what_cannot_be_forgotten_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    os.utime(tmp_path / "lost+found", (0, 0))
    values = Kept(tmp_path, 1)
    for number in range(9):
        values.put(f"{number}", bytes(300_000))
    assert sum(path.stat().st_size for path in tmp_path.glob("[0-9]")) <= 2**20


def test_small_values_are_bounded_by_what_they_take_on_a_disk(tmp_path: Path) -> None:
    for number in range(400):  # processes that keep one each
        Kept(tmp_path, 1).put(f"{number}", b"a few bytes")
    assert 0.5 * 2**20 < 4096 * len(list(tmp_path.iterdir())) < 1.5 * 2**20
    assert not list(tmp_path.glob("*.tmp"))


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_keys_tell_all_apart_that_a_value_depends_on(one: list[str], other: list[str]) -> None:
    assert (Kept.key(*one) == Kept.key(*other)) == (one == other)
