"""Changes wait for their batch: none is lost, none waits too long, storms become one batch. Time is told."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.watch.pending import Batch, Pending

QUIET, LONGEST = 1.0, 10.0

# what happens: seconds later, which path, written or at rest, and with how long a rest
changes = st.lists(
    st.tuples(
        st.floats(0, 3, allow_subnormal=False),
        st.sampled_from(["a", "b", "c", "d/x", "d/y"]),
        st.booleans(),
        st.sampled_from([0.0, 0.0, 2.5]),
    ),
    max_size=60,
)


def pending(most: int = 1_000) -> Pending:
    return Pending(QUIET, LONGEST, most=most, coarser=lambda path: path.partition("/")[0])


def played(
    events: list[tuple[float, str, bool, float]], most: int = 1_000
) -> tuple[list[tuple[float, str]], list[tuple[float, Batch]]]:
    """The changes with their times, and the batches with the times at which a punctual caller takes them."""
    state, now = pending(most), 0.0
    told: list[tuple[float, str]] = []
    batches: list[tuple[float, Batch]] = []

    def take_until(end: float) -> None:
        while (due := state.due()) <= end:
            batches.append((due, state.take(due)))

    for wait, path, writing, rest in events:
        take_until(math.nextafter(now + wait, -math.inf))
        now += wait
        state.changed(path, now, writing=writing, rest=rest)
        told.append((now, path))
    take_until(now + 1_000)
    assert not len(state)
    return told, batches


@given(changes)
def test_every_change_is_in_a_batch_taken_after_it_and_no_batch_is_empty(
    events: list[tuple[float, str, bool, float]],
) -> None:
    told, batches = played(events)
    for at, path in told:
        assert any(taken >= at and path in batch.paths for taken, batch in batches)
    assert all(batch.paths for _, batch in batches)
    assert {path for _, batch in batches for path in batch.paths} == {path for _, path in told}


@given(changes)
def test_what_rests_waits_no_longer_than_longest_and_nothing_is_taken_twice(
    events: list[tuple[float, str, bool, float]],
) -> None:
    told, batches = played(events)
    for path in {path for _, path in told}:
        previous = -math.inf
        for taken, batch in ((taken, batch) for taken, batch in batches if path in batch.paths):
            covered = [at for at, p in told if p == path and previous < at <= taken]
            assert covered  # each batch answers a change
            assert batch.since <= covered[0]
            rests_at = covered[-1] + max(QUIET, *(rest for _, p, _, rest in events if p == path))
            assert taken <= max(rests_at, covered[0] + LONGEST) + 1e-9
            previous = taken


@given(changes, st.integers(1, 3))
def test_paths_beyond_the_bound_are_stood_for_by_a_coarser_one(
    events: list[tuple[float, str, bool, float]], most: int
) -> None:
    state, now = pending(most), 0.0
    for wait, path, writing, rest in events:
        now += wait
        state.changed(path, now, writing=writing, rest=rest)
        assert len(state) <= max(most, 4)  # the coarsest there is
    paths = state.take(now + 1_000).paths
    assert all(path in paths or path.partition("/")[0] in paths for _, path, _, _ in events)


def test_storm_over_many_paths_is_one_batch() -> None:
    _, batches = played([(0.001, f"page{i}", i % 2 == 0, 0.0) for i in range(1_000)])
    ((taken, batch),) = batches
    assert len(batch.paths) == 1_000
    assert taken == pytest.approx(1.0 + QUIET)


def test_saves_of_one_file_are_one_batch() -> None:
    _, batches = played([(0.05, "a", False, 0.0)] * 100)
    assert len(batches) == 1


def test_endless_storm_is_published_as_it_goes_and_not_often() -> None:
    _, batches = played([(0.1, f"page{i}", False, 0.0) for i in range(600)])
    times = [taken for taken, _ in batches]
    assert all(later - earlier <= LONGEST + 1e-9 for earlier, later in itertools.pairwise([0.1, *times]))
    assert len(batches) <= 8  # in a minute


def test_file_that_grows_is_left_until_it_rests_and_keeps_nobody_waiting() -> None:
    log = [(0.2, "log", True, 0.0)] * 200
    told, batches = played([*log[:50], (0.0, "page", False, 0.0), *log[50:]])
    (page, grown) = batches
    assert page[1].paths == {"page"}
    assert page[0] == pytest.approx(told[50][0] + QUIET)
    assert grown[1].paths == {"log"}
    assert grown[0] == pytest.approx(told[-1][0] + QUIET)


def test_file_that_is_saved_again_and_again_is_not_left_forever() -> None:
    _, batches = played([(0.2, "notes", False, 0.0)] * 200)
    assert len(batches) > 3


def test_batch_that_is_put_back_is_due_at_once_and_remembers_its_first_change() -> None:
    state = pending()
    state.changed("a", 5.0)
    batch = state.take(6.0)
    state.changed("b", 7.0)
    state.put_back(batch)
    assert state.due() <= 8.0
    assert state.take(8.0) == Batch(frozenset({"a", "b"}), 5.0)
    assert state.due() == math.inf
