"""Make a trained reranker read sooner and keep less: `python -m tasks.training.shorten RECIPE.json`.

1. It reads `words_read` words of a window, or half of them where that is more, and learns to make of them what it made
   of them when it read all: a distillation of the model into itself, for which nothing has to be judged. Cosines of
   words to each other are learned too, because they are all that MaxSim compares (Park et al. 2019, "Relational
   Knowledge Distillation").
2. A word's vector is projected on the `word_dim` directions in which the words of passages differ most. For cosines
   these are the principal components of unit vectors about zero, and not about their mean.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from transformers import PrinterCallback, Trainer, TrainingArguments

from tasks.models.batching import length_sorted
from tasks.models.folders import copy_tokenizer, describe
from tasks.models.hardware import has_bf16
from tasks.models.maxsim import MaxSimForSequenceClassification
from tasks.training.train import NO_DROPOUT, progress
from tasks.training.unpack import unpack

# Of a step, once padded.
STEP_TOKENS = 5_000
# Words of a step whose cosines to each other are compared: all of them would have some ten million.
COMPARED = 1024
# What those cosines count for beside the vectors, and where words are alike, of which MaxSim keeps the most alike only.
COSINES, ALIKE, ALIKE_COSINES = 30.0, 0.3, 120.0
# Steps whose words tell the principal components: some 100,000 words, for at most some hundred directions.
LOOKED_AT = 40

Step = dict[str, torch.Tensor]  # input_ids int64[texts, tokens], and how many `words` each has, int64[texts, 1]


@dataclass(frozen=True)
class Recipe:
    """What is made of what."""

    model: str  # folder of a model of tasks.models.maxsim, or of one that `bundle` made
    lists: str  # Parquet file, LISTS, of which the passages are read
    into: str  # folder of the shorter model
    words_read: int  # of a window, as tasks.models.maxsim has it
    word_dim: int  # dimensions of a word's vector
    tokens: int  # of a passage, special tokens counted
    epochs: float
    learning_rate: float


class ReadLess(Trainer):  # type: ignore[misc]
    """Trains a model that reads some words to see in them what `whole` sees that reads all."""

    whole: MaxSimForSequenceClassification

    def compute_loss(self, model: MaxSimForSequenceClassification, step: Step, **_: Any) -> torch.Tensor:
        """Of the words that are read, the mean of one less the cosine, and of the squared error of their cosines."""
        everything = self.whole.windows(step["input_ids"], torch.ones_like(step["words"]), step["words"])
        read = model.telling(everything)
        with torch.no_grad():
            wanted = self.whole.units(everything).float().view(*everything.ids.shape, -1)
        wanted = wanted.gather(2, read.places[..., None].expand(*read.places.shape, wanted.shape[-1]))[read.words]
        wanted = normalize(wanted, dim=-1)
        found = normalize(model.units(read).float().view(*read.ids.shape, -1)[read.words], dim=-1)
        some = torch.randperm(len(found))[:COMPARED]
        cosines = wanted[some] @ wanted[some].T
        counts = torch.where(cosines > ALIKE, ALIKE_COSINES, COSINES)
        errors = (found[some] @ found[some].T - cosines).square()
        return (1 - (found * wanted).sum(1)).mean() + (counts * errors).mean()


def shorten(recipe: Recipe, report: Callable[[int, int], None]) -> None:
    """Write the model that comes of `recipe` to its folder `into`."""
    cuda = torch.cuda.is_available()
    folder, into = Path(recipe.model), Path(recipe.into)
    tokenizer = describe(folder).tokenizer()
    whole, model = (loaded(folder, words_read=read) for read in (None, recipe.words_read))
    rows = pq.read_table(recipe.lists, columns=["passages"])["passages"].to_pylist()
    passages = sorted({passage for row in rows for passage in row})
    steps = in_steps(passages, tokenizer, recipe.tokens)
    for fixed in (model.get_input_embeddings().weight, model.rarity.weight, model.sharpness):
        fixed.requires_grad_(False)  # what the words weigh, and so which are read, is as it was
    trainer = ReadLess(
        model=model,
        args=TrainingArguments(
            output_dir=str(into),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=1,  # a step's texts are together already
            learning_rate=recipe.learning_rate,
            warmup_steps=0.05,
            weight_decay=0.01,
            bf16=cuda or has_bf16(),
            use_cpu=not cuda,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=7,
        ),
        train_dataset=steps,
        data_collator=lambda one: one[0],
        callbacks=[progress(report)],
    )
    trainer.remove_callback(PrinterCallback)  # it would print among the steps
    trainer.whole = whole.to(trainer.args.device).eval()
    trainer.train()
    model = model.cpu().eval()
    principal = directions(model, steps[:LOOKED_AT])[: recipe.word_dim]
    model.projection = torch.nn.Linear(principal.shape[1], recipe.word_dim)
    model.projection.load_state_dict({"weight": principal, "bias": torch.zeros(recipe.word_dim)})
    model.config.word_dim = recipe.word_dim
    model.save_pretrained(into)
    copy_tokenizer(folder, into)
    shutil.copy(folder / "config_sentence_transformers.json", into)


def loaded(folder: Path, words_read: int | None) -> MaxSimForSequenceClassification:
    """The model, reading so many words of a window, each as the body's own vector."""
    with tempfile.TemporaryDirectory() as aside:
        if describe(folder).weights.suffix == ".onnx":
            unpack(folder, folder := Path(aside))
        model: MaxSimForSequenceClassification = MaxSimForSequenceClassification.from_pretrained(
            folder,
            words_read=words_read,
            word_dim=None,
            attn_implementation="eager",  # as in tasks.training.train
            local_files_only=True,
            **NO_DROPOUT,
        )
    return model


def in_steps(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> list[Step]:
    """All texts that have a word, those of about one length together, in an order that is drawn."""
    tokenizer.enable_truncation(longest)
    encodings = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts) if len(encoding.ids) > 2]
    steps = []
    for batch in length_sorted([len(ids) for ids in encodings], STEP_TOKENS):
        rows = [torch.tensor(encodings[i]) for i in batch]
        words = torch.tensor([[len(row) - 2] for row in rows])
        steps.append({"input_ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), "words": words})
    random.Random(7).shuffle(steps)
    return steps


@torch.inference_mode()
def directions(model: MaxSimForSequenceClassification, steps: Sequence[Step]) -> torch.Tensor:
    """float32[dim, dim]: the principal components of the vectors of the words that are read, the first one first."""
    moments = torch.zeros(model.config.hidden_size, model.config.hidden_size)
    for step in steps:
        vectors, weights = model.read(step["input_ids"], torch.ones_like(step["words"]), step["words"])
        vectors = vectors[weights >= 0]
        moments += vectors.T @ vectors
    principal: torch.Tensor = torch.linalg.eigh(moments).eigenvectors.T.flip(0)  # eigh's come in ascending order
    return principal


def main() -> None:
    """Shorten; a line `done of steps` a step on standard output."""
    recipe = Recipe(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    shorten(recipe, lambda done, n: print(f"{done} of {n}", flush=True))


if __name__ == "__main__":
    main()
