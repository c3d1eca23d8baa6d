"""Train a cross-encoder on lists, with sentence-transformers' trainer: `python -m tasks.training.train RECIPE.json`.

A process of its own, so that torch never enters the caller and all that a killed run leaves is its checkpoints, from
which the next run of the same recipe goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.models.resolve import check_complete

# An epoch or two learn nothing by heart, and making the masks is a third of the time on a CPU.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Recipe:
    """What is trained on what."""

    base: str  # folder of an encoder or a cross-encoder in the hub's layout, or of one that `bundle` made
    lists: tuple[str, ...]  # Parquet files, LISTS
    into: str  # folder of the model; checkpoints lie below it while it is trained
    fusion_weight: float
    tokens: int  # of a (query, passage) pair, special tokens counted
    epochs: float
    learning_rate: float
    lists_a_step: int


def train(recipe: Recipe, report: Callable[[int, int], None]) -> None:
    """Write the model that comes of `recipe` to its folder `into`."""
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from transformers import PrinterCallback, TrainerCallback
    from transformers.trainer_utils import get_last_checkpoint

    from tasks.training.loss import ListwiseLoss
    from tasks.training.unpack import unpack

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            report(state.global_step, state.max_steps)

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            print(logs, file=sys.stderr, flush=True)

    into, base = Path(recipe.into), Path(recipe.base)
    torch.manual_seed(7)  # the head's first weights
    with tempfile.TemporaryDirectory() as aside:
        if check_complete(base).suffix == ".onnx":
            unpack(base, base := Path(aside))
        model = CrossEncoder(
            str(base), num_labels=1, max_length=recipe.tokens, local_files_only=True, config_kwargs=NO_DROPOUT
        )
    rows = [row for file in recipe.lists for row in pq.read_table(file).to_pylist()]
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(into / "checkpoints"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.lists_a_step,
        learning_rate=recipe.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        bf16=torch.cuda.is_available(),
        save_steps=100,
        save_total_limit=1,
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        seed=7,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {
                "query": [row["query"] for row in rows],
                "passages": [row["passages"] for row in rows],
                "fusion": [row["fusion"] for row in rows],
                "label": [row["gains"] for row in rows],
            }
        ),
        loss=ListwiseLoss(model, recipe.fusion_weight),
        callbacks=[Report()],
    )
    trainer.remove_callback(PrinterCallback)  # it would print among the steps
    trainer.train(resume_from_checkpoint=get_last_checkpoint(arguments.output_dir) if into.exists() else None)
    model.save_pretrained(str(into), create_model_card=False)


def main() -> None:
    """Train; a line `done of steps` a step on standard output."""
    written = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    train(Recipe(**{**written, "lists": tuple(written["lists"])}), lambda done, n: print(f"{done} of {n}", flush=True))


if __name__ == "__main__":
    main()
