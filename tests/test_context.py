"""Packing hits under a budget: what is promised for any hits, and on a store of the sample corpus."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.local import local_refresh
from schemas.records import Filter, Form, Order
from schemas.settings import Settings
from tasks.context import Places, Spans, blocks_of, pack, pack_context
from tasks.models import load_tokenizer
from tasks.search import search
from tasks.spans import Passage, spans
from tests.conftest import CORPUS
from tests.test_chunk import cut, elements
from tests.test_spans import passages

QUESTION = "how do we rotate TLS certificates automatically?"


def words(chosen: Spans) -> int:
    """A budget's measure: a source costs three words."""
    return sum(3 + sum(len(passage.text.split()) for passage in span) for span in chosen)


@settings(deadline=None)
@given(st.lists(elements, min_size=1, max_size=3), st.integers(0, 300), st.randoms(use_true_random=False))
def test_packing_keeps_the_budget_repeats_nothing_and_accounts_for_every_hit(
    documents: list[list], budget: int, chance: random.Random
) -> None:
    everything = [p for n, document in enumerate(documents) for p in passages(cut(document), f"d{n}")]
    hits = [p for p in everything if chance.random() < 0.6]
    chance.shuffle(hits)
    hits = [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]
    at = {(hit.document, hit.ordinal) for hit in hits}
    between: Places = {
        (p.document, p.ordinal): replace(p, rank=None)
        for before, p, after in zip(everything, everything[1:], everything[2:], strict=False)
        if (p.document, p.ordinal) not in at
        and {(before.document, before.ordinal), (after.document, after.ordinal)} <= at
        and len(spans([before, p, after])) == 1
    }
    packed = pack(hits, between, lambda chosen: words(chosen) <= budget)

    chosen = [passage for span in packed.spans for passage in span]
    assert words(packed.spans) <= budget
    assert len([p for p in chosen if p.rank is not None]) + packed.left_out + packed.repeated == len(hits)
    texts = [" ".join(p.text.split()) for p in chosen]
    assert len(set(texts)) == len(texts)
    for span in packed.spans:  # what lies between hits is never at an end
        assert span[0].rank is not None
        assert span[-1].rank is not None
    for order in ("best", "reading"):
        blocks = blocks_of(packed.spans, order)
        assert [block.number for block in blocks] == list(range(1, len(blocks) + 1))
        assert sorted(block.chunk_ids for block in blocks) == sorted(
            b.chunk_ids for b in blocks_of(packed.spans, "best")
        )


def hit(rank: int | None, ordinal: int, text: str, document: str = "d") -> Passage:
    start = ordinal * 100
    return Passage(document, ordinal, rank, document, document, "", "", text, None, start, start + 98)


def packed_texts(hits: list[Passage], *between: Passage, budget: int = 1000) -> list[str]:
    places = {(passage.document, passage.ordinal): passage for passage in between}
    packed = pack(hits, places, lambda chosen: words(chosen) <= budget)
    return [block.text for block in blocks_of(packed.spans, "best")]


def test_neighbours_and_what_lies_between_two_hits_become_one_block() -> None:
    assert packed_texts([hit(1, 3, "c"), hit(2, 1, "a"), hit(3, 4, "d")], hit(None, 2, "b")) == ["a\n\nb\n\nc\n\nd"]


def test_what_lies_between_gives_way_where_only_the_hit_fits() -> None:
    hits, middle = [hit(1, 3, "c"), hit(2, 1, "a")], hit(None, 2, "long " * 8)
    assert packed_texts(hits, middle, budget=8) == ["c", "a"]


def test_smaller_hit_fits_after_one_that_does_not() -> None:
    assert packed_texts([hit(1, 0, "a"), hit(2, 5, "long " * 9), hit(3, 9, "b")], budget=8) == ["a", "b"]


def test_text_of_a_better_hit_is_dropped_whichever_document_has_it() -> None:
    copies = [hit(1, 0, "one two  three"), hit(2, 0, "one two\nthree", "copy"), hit(3, 4, "two three", "part")]
    assert packed_texts([*copies, hit(4, 6, "wo three")]) == ["one two  three", "wo three"]


def test_blocks_of_a_document_stand_together_in_reading_order() -> None:
    found = spans([hit(1, 5, "b"), hit(2, 0, "z", "other"), hit(3, 0, "a")])
    assert [block.text for block in blocks_of(found, "best")] == ["b", "z", "a"]
    assert [block.text for block in blocks_of(found, "reading")] == ["a", "b", "z"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("context")
    made = Settings(store=root / "store", cache=model_cache)
    local_refresh([str(CORPUS)], made, lambda *_: None)
    return made


@pytest.mark.parametrize(("form", "order"), list(product(["markdown", "xml"], ["best", "reading"])))
def test_prompt_never_has_more_tokens_than_the_budget(built: Settings, form: Form, order: Order) -> None:
    tokenizer = load_tokenizer(built)
    blocks = []
    for budget in (1, 40, 150, 333, 800, 2000, 8000):
        found = pack_context(QUESTION, built, budget=budget, form=form, order=order)
        counted = len(tokenizer.encode(found.prompt, add_special_tokens=False).ids)
        assert counted <= found.tokens <= budget
        assert sum(block.text in found.prompt for block in found.blocks) >= len(found.blocks) // 2  # others are escaped
        blocks.append(len(found.blocks))
    assert blocks[0] == 0
    assert found.left_out == 0
    assert max(blocks) > 4


def test_blocks_are_the_hits_of_search(built: Settings) -> None:
    hits = search(QUESTION, built, k=6).hits
    found = pack_context(QUESTION, built, budget=8000, k=6)
    packed = {chunk for block in found.blocks for chunk in block.chunk_ids}
    assert len({hit.chunk_id for hit in hits} - packed) == found.repeated
    assert found.blocks[0].path == hits[0].path
    for hit_ in hits:
        for block in found.blocks:
            if hit_.chunk_id in block.chunk_ids:
                assert block.text[hit_.start - block.start :].startswith(hit_.text)
    slides = pack_context("capacity", built, wanted=Filter(file_types=("pptx",)))
    assert {block.path.rpartition(".")[2] for block in slides.blocks} == {"pptx"}
    assert slides.blocks[0].page is not None


def test_packing_imports_neither_prefect_nor_torch() -> None:
    code = "import sys, tasks.context; print({'prefect', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"
