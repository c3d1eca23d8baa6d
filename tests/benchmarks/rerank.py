"""What reranking costs, beside sentence-transformers, and whether deadlines hold: `python -m tests.benchmarks.rerank`.

One run, one machine: a question and 50 passages of 200 word pieces of the sample corpus, the backends by turns, so that
a busy moment falls on all of them. Passages are read anew for each question, but where a line says that they are kept.
`--model` takes a folder or name; without it, the bundled reranker, whose weights come back out of its graph for the
others. One that compares word by word stands beside a plain cross-encoder of its size too, which reads each pair whole.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from schemas.reranking import RERANKER
from schemas.settings import Settings
from tasks.models import load_tokenizer
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.folders import copy_tokenizer
from tasks.models.late_interaction import LateInteraction
from tasks.models.resolve import check_complete, resolve
from tasks.rerank import SPENT, load_reranker, score_pool
from tasks.training.unpack import unpack
from tests.conftest import CORPUS

QUESTIONS = (
    "how do we rotate TLS certificates automatically?",
    "why did our ECS service stop scaling?",
    "which vector store does not need a separate server?",
    "what raises the latency of a query?",
    "how is a domain transferred to another registrar?",
)
PAIRS = 50
TOKENS = 200

Score = Callable[[str, Sequence[str]], np.ndarray]


def passages(settings: Settings) -> list[str]:
    """PAIRS slices of TOKENS word pieces each."""
    text = "\n".join(path.read_text() for path in sorted(CORPUS.glob("*.md")))
    offsets = load_tokenizer(settings).encode(text, add_special_tokens=False).offsets
    starts = np.random.default_rng(0).integers(0, len(offsets) - TOKENS, PAIRS)
    return [text[offsets[start][0] : offsets[start + TOKENS - 1][1]] for start in starts]


def sentence_transformers(model: Path) -> Score:
    """As its documentation says: predict(), batches of 32, fp32."""
    import torch
    from sentence_transformers import CrossEncoder as Reference

    reference = Reference(str(model), device="cpu", local_files_only=True)
    return lambda query, texts: np.asarray(
        reference.predict([(query, text) for text in texts], show_progress_bar=False, activation_fn=torch.nn.Identity())
    )


def plain(model: Path, into: Path) -> Path:
    """The folder of a cross-encoder with the sizes of that BERT, untrained: training makes none faster."""
    from transformers import BertConfig, BertForSequenceClassification

    config = {**BertConfig.from_pretrained(model).to_dict(), "num_labels": 1}
    BertForSequenceClassification(BertConfig(**config)).save_pretrained(into)
    copy_tokenizer(model, into)
    return into


def speeds(backends: dict[str, Score], texts: Sequence[str], rounds: int) -> Table:
    """Time of all pairs, and agreement with the first backend."""
    took: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(rounds + 1):
        for name, score in backends.items():
            started = time.perf_counter()
            score(QUESTIONS[turn % len(QUESTIONS)], texts)
            took[name].append((time.perf_counter() - started) * 1000)
    medians = {name: statistics.median(times[1:]) for name, times in took.items()}  # the first round warms up
    scores = {name: [score(question, texts) for question in QUESTIONS] for name, score in backends.items()}
    exact, slowest = next(iter(scores.values())), next(iter(medians.values()))
    table = Table(f"{PAIRS} pairs, {TOKENS} tokens each", "ms, median", "least", "", "correlation", "same top 10")
    for name, found in scores.items():
        pairs = list(zip(found, exact, strict=True))
        table.add_row(
            name,
            f"{medians[name]:.0f}",
            f"{min(took[name][1:]):.0f}",
            f"{slowest / medians[name]:.1f} times",
            f"{statistics.fmean(np.corrcoef(one, other)[0, 1] for one, other in pairs):.4f}",
            f"{statistics.fmean(len(top(one) & top(other)) / 10 for one, other in pairs):.0%}",
        )
    return table


def top(scores: np.ndarray) -> set[int]:
    """The ten best places."""
    return set(np.argsort(-scores)[:10].tolist())


def deadlines(settings: Settings, texts: Sequence[str], queries: int) -> Table:
    """What is scored in time, and how far past the deadline the worst query ran."""
    table = Table("deadline, ms", "pool, mean", "ms, mean", "ms, worst", "over the deadline, worst")
    for milliseconds in (50, 100, 200, 350):
        timed = settings.model_copy(update={"deadline_ms": milliseconds})
        reranker = load_reranker(timed)
        assert reranker is not None
        pools, took = [], []
        for turn in range(queries):
            started = time.perf_counter()
            ends = started + milliseconds * SPENT / 1000
            scores, _ = score_pool(reranker, QUESTIONS[turn % len(QUESTIONS)], texts, timed, least=1, ends=ends)
            took.append((time.perf_counter() - started) * 1000)
            pools.append(len(scores))
        table.add_row(
            f"{milliseconds}",
            f"{statistics.fmean(pools):.1f}",
            f"{statistics.fmean(took):.0f}",
            f"{max(took):.0f}",
            f"{max(0.0, max(took) / milliseconds - 1):.0%}",
        )
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", help="folder or name; without it, the bundled reranker")
    parser.add_argument("--rounds", type=int, default=7, help="times that each backend scores all pairs")
    parser.add_argument("--queries", type=int, default=40, help="queries a deadline")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as aside:
        settings = Settings(
            reranker=arguments.model or RERANKER, cache=Path(aside), rerank_precision="auto", rerank_cache_mb=0
        )
        weights = resolve(settings.reranker, settings)
        if check_complete(weights).suffix == ".onnx":
            unpack(weights, weights := Path(aside, "weights"))
        texts = passages(settings)
        backends: dict[str, Score] = {
            "sentence-transformers, torch fp32": sentence_transformers(weights),
            "ours, fp32": load_cross_encoder(
                str(weights), settings.model_copy(update={"rerank_precision": "fp32"})
            ).score,
            "ours, int8": load_cross_encoder(settings.reranker, settings).score,
        }
        kept = settings.model_copy(update={"rerank_cache_mb": 1024})
        keeping = load_cross_encoder(settings.reranker, kept)
        if isinstance(keeping, LateInteraction):
            backends["ours, int8, passages kept"] = keeping.score
            backends["sentence-transformers, an untrained cross-encoder"] = sentence_transformers(
                plain(weights, Path(aside, "plain"))
            )
        console.print(speeds(backends, texts, arguments.rounds))
        console.print(deadlines(settings, texts, arguments.queries))
        if isinstance(keeping, LateInteraction):
            console.print("passages kept:", deadlines(kept, texts, arguments.queries))


if __name__ == "__main__":
    main()
