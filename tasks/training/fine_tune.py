"""Fine-tune a cross-encoder on one's own corpus and judged queries, and keep it only where it wins on unseen ones.

mine lists → train → weigh beside fusion → compare on queries that were held out → keep, or not
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from schemas.errors import BadJudgements, RerankerFailed, TrainingFailed
from schemas.reranking import RERANKER
from schemas.settings import Settings
from tasks.blend import NEIGHBOURS, Blend
from tasks.evaluate.comparison import Comparison, compared
from tasks.evaluate.evaluation import evaluate
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import p_value
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.folders import FUSION_WEIGHT, NEIGHBOUR_WEIGHT
from tasks.models.resolve import resolve
from tasks.store.files import write_text
from tasks.training.lists import mine
from tasks.training.train import Recipe
from tasks.training.weigh import best_blend, score_pools

Report = Callable[[str, int, int], None]  # stage (mine, train, weigh, before, after), done, total

# Of ten queries, by a digest of their texts, these are learned from; one weighs, two decide.
TRAINED, WEIGHED = 7, 8
# With fewer there is nothing to hold out.
LEAST = 20
# Fusion's weight while training; that of the final order is found afterwards.
TRAINED_BESIDE = 8.0


@dataclass(frozen=True)
class Plan:
    """How to train."""

    base: str = RERANKER  # an encoder or a cross-encoder, by folder or name
    lists: tuple[Path, ...] = ()  # LISTS that were mined before, of this or other stores
    negatives: int = 7  # of a list
    tokens: int = 192  # of a (query, passage) pair, special tokens counted
    epochs: float = 2.0
    learning_rate: float = 5e-5
    lists_a_step: int = 8


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    comparison: Comparison  # on the queries that were held out: with the settings' reranker, and with the new one
    card: str  # the model's README.md
    folder: Path | None  # of the model; None where it did not win

    @property
    def verdict(self) -> str:
        """One sentence."""
        change, queries = self.comparison.stages["rerank"], len(self.comparison.queries)
        sure = p_value(change.difference)
        end = f"kept in {self.folder}" if self.folder else "not kept"
        return f"nDCG@10 {change.before:.3f} → {change.after:.3f} on {queries} queries held out ({sure}): {end}"


def fine_tune(judged: Judged, into: Path, settings: Settings, plan: Plan, report: Report) -> Outcome:
    """Train by `plan` on the store of `settings`, and put the model in the folder `into` where it wins.

    It wins over the reranker of the settings, without their deadline. What a run of the same plan and judgements that
    was stopped left in `<into>.building` is taken up; what one left that came to its end is not.

    Raises BadJudgements, ModelNotFound, TrainingFailed, RerankerFailed, and the errors of tasks.search.search.
    """
    if into.exists() and not (into / "config.json").is_file():
        raise TrainingFailed(f"{into} is no model's folder and would be replaced; give one that is, or a new name")
    learned, weighed, decisive = split(judged)
    building = into.with_name(f"{into.name}.building")
    begun, of = building / "begun.json", json.dumps([asdict(plan), asdict(learned)], default=str)
    if not begun.exists() or begun.read_text(encoding="utf-8") != of:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_text(begun, of)
    lists = building / "lists.parquet"
    if not lists.exists():
        mined = mine(learned, settings, negatives=plan.negatives, report=partial(report, "mine"))
        if not mined.num_rows and not plan.lists:
            raise BadJudgements(f"nothing that was judged relevant is in the first {settings.pool} that search finds")
        pq.write_table(mined, lists)
    model = building / "model"
    recipe = Recipe(
        base=str(resolve(plan.base, settings)),
        lists=(str(lists), *(str(path) for path in plan.lists)),
        into=str(model),
        fusion_weight=TRAINED_BESIDE,
        tokens=plan.tokens,
        epochs=plan.epochs,
        learning_rate=plan.learning_rate,
        lists_a_step=plan.lists_a_step,
    )
    _train(recipe, building, settings.embed_threads, partial(report, "train"))
    old = settings.model_copy(update={"deadline_ms": None})
    new = old.model_copy(update={"reranker": str(model)})
    pools = score_pools(weighed, load_cross_encoder(str(model), new), settings, partial(report, "weigh"))
    blend = best_blend(weighed, pools)
    config = model / "config.json"
    weights = {FUSION_WEIGHT: blend.fusion, NEIGHBOUR_WEIGHT: blend.neighbours}
    write_text(config, json.dumps(json.loads(config.read_text(encoding="utf-8")) | weights, indent=2))
    before = evaluate(decisive, old, report=partial(report, "before"))
    if before.fallbacks:
        raise RerankerFailed(
            f"the reranker to be beaten failed, run again when it answers: {next(iter(before.fallbacks))}"
        )
    comparison = compared(before, evaluate(decisive, new, report=partial(report, "after")))
    card = _card(into.name, plan, blend, comparison, len(learned.queries))
    write_text(model / "README.md", card)
    shutil.rmtree(model / "checkpoints", ignore_errors=True)
    if comparison.headline.mean <= 0:
        begun.unlink()  # the next run learns anew
        return Outcome(comparison, card, None)
    if into.exists():
        shutil.rmtree(into)
    model.rename(into)
    shutil.rmtree(building)
    return Outcome(comparison, card, into)


def split(judged: Judged) -> tuple[Judged, Judged, Judged]:
    """To learn from, to weigh with, to decide by; a query keeps its part when others come. Raises BadJudgements."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for query, text in judged.queries.items():
        place = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        parts[0 if place < TRAINED else 1 if place < WEIGHED else 2].append(query)
    if len(judged.queries) < LEAST or not all(parts):
        raise BadJudgements(
            f"{len(judged.queries)} judged queries are too few to train on and to hold some out; judge {LEAST} or more"
        )
    learned, weighed, decisive = (_of(judged, part) for part in parts)
    return learned, weighed, decisive


def _of(judged: Judged, queries: Iterable[str]) -> Judged:
    chosen = list(queries)
    return Judged({q: judged.queries[q] for q in chosen}, {q: judged.gains[q] for q in chosen})


def _train(recipe: Recipe, folder: Path, threads: int, report: Callable[[int, int], None]) -> None:
    """In a process of its own: see tasks.training.train. Raises TrainingFailed."""
    written = folder / "recipe.json"
    write_text(written, json.dumps(asdict(recipe), indent=1))
    log = folder / "training.log"
    command = [sys.executable, "-m", "tasks.training.train", str(written)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            done, _, steps = line.partition(" of ")
            report(int(done), int(steps))
    if process.returncode:
        raise TrainingFailed(f"the training ended with status {process.returncode}; the reason stands in {log}")


def _card(name: str, plan: Plan, blend: Blend, comparison: Comparison, learned: int) -> str:
    """The model's README.md."""
    rows = "\n".join(
        f"| {stage} | {change.before:.3f} | {change.after:.3f} |" for stage, change in comparison.stages.items()
    )
    more = "".join(f", and the lists of {path}" for path in plan.lists)
    return f"""# {name}

A cross-encoder with one logit, trained by `headrace train-reranker`. The final order is by its logit plus
{blend.fusion:g} times fusion's score, drawn by {blend.neighbours:g} towards the mean of the {NEIGHBOURS} candidates
most alike; config.json keeps these weights as `{FUSION_WEIGHT}` and `{NEIGHBOUR_WEIGHT}`.

- start: {plan.base}
- data: {learned} judged queries of {comparison.after.store}{more}
- training: {plan.epochs:g} epochs, learning rate {plan.learning_rate:g}, {plan.lists_a_step} lists a step,
  {plan.negatives} hard negatives a list, {plan.tokens} tokens a pair

nDCG@10 of {len(comparison.queries)} other queries ({p_value(comparison.headline)}); the reranker before was
{comparison.before.reranker}:

| stage | before | with this model |
|---|---|---|
{rows}
"""
