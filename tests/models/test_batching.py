"""Length-sorted batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.models.batching import length_sorted


@given(lengths=st.lists(st.integers(1, 256)), budget=st.integers(1, 1024))
def test_batches_hold_each_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_sorted(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
